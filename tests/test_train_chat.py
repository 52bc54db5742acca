from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")
TRAIN = Path(__file__).resolve().parents[1] / "train"
sys.path.insert(0, str(TRAIN))

import chat  # noqa: E402
from conversations import Conversation  # noqa: E402
from errors import UserError  # noqa: E402
from tests.tiny_models import CHATML, END, tokenizer  # noqa: E402

LONGEST = 1000


def talk(*contents: str, system: str = "") -> Conversation:
    roles = ("user", "assistant")
    turns = [{"role": roles[at % 2], "content": content} for at, content in enumerate(contents)]
    return Conversation((*([{"role": "system", "content": system}] if system else []), *turns), "data line 1")


def learned(words: Any, example: chat.Example) -> str:
    return str(words.decode([label for label in example.labels if label != chat.IGNORED]))


def whole(words: Any, example: chat.Example) -> str:
    return str(words.decode(example.input_ids))


def test_answers_and_their_end_are_learned_and_nothing_else() -> None:
    words = tokenizer(CHATML)
    assert chat.prepare(words) == "the tokenizer's own"
    (example,) = chat.encode(words, [talk("who?", "me", "the answer?", "4", system="short")], LONGEST).kept
    assert whole(words, example) == (
        f"<system>short{END}\n<user>who?{END}\n<assistant>me{END}\n"
        f"<user>the answer?{END}\n<assistant>4{END}\n"
    )
    assert learned(words, example) == f"me{END}4{END}"
    assert words.eos_token_id in example.labels
    assert all(
        label in (chat.IGNORED, token) for token, label in zip(example.input_ids, example.labels, strict=True)
    )


def test_what_precedes_the_first_learned_token_is_the_prompt_of_inference() -> None:
    for template in (CHATML, None):
        words = tokenizer(template)
        chat.prepare(words)
        conversation = talk("question number 7", "the answer 14")
        (example,) = chat.encode(words, [conversation], LONGEST).kept
        first = next(at for at, label in enumerate(example.labels) if label != chat.IGNORED)
        prompt = chat.prompt_text(words, conversation.messages[:-1])
        assert example.input_ids[:first] == words(prompt, add_special_tokens=False)["input_ids"]


def test_without_a_template_a_plain_one_is_stated_and_kept() -> None:
    words = tokenizer(None)
    assert "the tokenizer has none" in chat.prepare(words)
    (example,) = chat.encode(words, [talk("who?", "me")], LONGEST).kept
    assert whole(words, example) == f"### User:\nwho?\n### Assistant:\nme{END}\n"
    assert learned(words, example) == f"me{END}"
    assert words.chat_template and words.pad_token == END


def test_an_end_is_added_where_the_template_has_none() -> None:
    words = tokenizer()
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
    chat.prepare(words, template + "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}")
    (example,) = chat.encode(words, [talk("who?", "me")], LONGEST).kept
    assert learned(words, example) == f"me{END}"


def test_an_answer_that_speaks_of_the_end_is_learned_whole() -> None:
    endless = "{% for m in messages %}{{ m['role'] + ':' + m['content'] }}{% endfor %}"
    for template in (CHATML, endless + "{% if add_generation_prompt %}assistant:{% endif %}"):
        words = tokenizer(template)
        chat.prepare(words)
        (example,) = chat.encode(words, [talk("<|end|>?", f"{END} ends answers")], LONGEST).kept
        assert learned(words, example) == f"{END} ends answers{END}"


def test_a_message_that_the_template_leaves_out_is_counted() -> None:
    words = tokenizer(CHATML.replace("{{ '<' + m", "{{ '' if m['role'] == 'system' else '<' + m"))
    chat.prepare(words)
    found = chat.encode(words, [talk("who?", "me", system="short"), talk("who?", "me")], LONGEST)
    assert (found.unseen, len(found.kept)) == (1, 2)


def test_long_conversations_are_cut_and_counted() -> None:
    words = tokenizer(CHATML)
    chat.prepare(words)
    found = chat.encode(words, [talk("who?", "x" * 50), talk("y" * 99, "z"), talk("a", "b")], 40)
    assert (len(found.kept), found.cut, found.dropped, found.unlearned) == (2, 2, 1, 0)
    assert len(found.kept[0].input_ids) == 40
    assert found.learned == sum(label != chat.IGNORED for each in found.kept for label in each.labels)


def test_of_a_book_only_the_beginning_is_read_and_the_tokens_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = tokenizer(CHATML)
    chat.prepare(words)
    book = talk("who wrote this?", "it was a dark and stormy night, " * 20_000)
    shortened = chat.encode(words, [book], 100)
    monkeypatch.setattr(chat, "CHARACTERS", 1 << 30)
    assert shortened == chat.encode(words, [book], 100)
    assert (shortened.cut, len(shortened.kept[0].input_ids)) == (1, 100)


def test_answers_that_the_template_rewrites_are_counted_and_not_learned() -> None:
    words = tokenizer()
    rewriting = (
        "{% for m in messages %}{{ '<' + m['role'] + '>' }}"
        "{% if m['role'] == 'assistant' and loop.last %}(thought){% endif %}"
        "{{ m['content'] + '<|end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
    )
    chat.prepare(words, rewriting)
    found = chat.encode(words, [talk("who?", "me", "and?", "you")], LONGEST)
    assert found.unlearned == 1
    assert learned(words, found.kept[0]) == f"(thought)you{END}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{{ raise_exception('no system messages') }}",
            "data line 1: the chat template refuses it: no system",
        ),
        ("{% if add_generation_prompt %}X{% endif %}{{ messages[-1]['content'] }}", "writes another prompt"),
    ],
)
def test_a_template_that_cannot_be_used_is_named_with_the_line(template: str, message: str) -> None:
    words = tokenizer()
    chat.prepare(words, template)
    with pytest.raises(UserError, match=message):
        chat.encode(words, [talk("who?", "me", system="short")], LONGEST)


def test_a_tokenizer_without_an_end_is_refused() -> None:
    words = tokenizer(CHATML)
    words.eos_token = None
    with pytest.raises(UserError, match="no eos_token"):
        chat.prepare(words)
