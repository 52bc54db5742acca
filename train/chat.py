"""A conversation as the model sees it: the chat template's text, its tokens, and which are learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from conversations import Conversation, Message
from errors import UserError

CHARACTERS, MORE = 32, 64
"""So many for a token that is kept, and so many tokens more, are read of a text that is far longer."""
IGNORED = -100
"""The label that the loss leaves out, transformers' convention."""
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '### ' + message['role'] | capitalize + ':\\n' + message['content'] }}"
    "{{ (eos_token if message['role'] == 'assistant' else '') + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}"
)
"""For tokenizers without a template: plain text, so that no token is new to the model."""


@dataclass(frozen=True)
class Example:
    """Tokens of one conversation; `labels` are the same where the assistant speaks, else `IGNORED`."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Examples:
    """`cut` were longer than allowed, `dropped` of them before the first answer; `unlearned` answers are not
    where the template first put them, once more messages follow; `unseen` are messages that it leaves out."""

    kept: list[Example]
    cut: int
    dropped: int
    unlearned: int
    unseen: int

    @property
    def tokens(self) -> int:
        return sum(len(each.input_ids) for each in self.kept)

    @property
    def learned(self) -> int:
        return sum(label != IGNORED for each in self.kept for label in each.labels)


def prepare(tokenizer: Any, template: str | None = None) -> str:
    """Give the tokenizer its template (`template`, its own, or a plain one) and padding; says which it is.

    Raises UserError for a tokenizer that has no token for the end, or cannot tell where its tokens come from.
    """
    if not tokenizer.is_fast:
        raise UserError(
            "this tokenizer cannot tell which text a token stands for",
            hint="a directory with a tokenizer.json has one that can",
        )
    if tokenizer.eos_token is None:
        raise UserError(
            "this tokenizer has no eos_token: answers would never end", hint="set eos_token in it"
        )
    if tokenizer.pad_token is None:
        # Padding is masked by its place, not by its token, so the end is learned all the same.
        tokenizer.pad_token = tokenizer.eos_token
    if template is not None:
        tokenizer.chat_template = template
        return "as given"
    if tokenizer.chat_template:
        return "the tokenizer's own"
    starts = tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id]
    tokenizer.chat_template = ("{{ bos_token }}" if starts else "") + PLAIN_TEMPLATE
    return "### User: ... ### Assistant: ... (the tokenizer has none)"


def prompt_text(tokenizer: Any, messages: Sequence[Message]) -> str:
    """Everything up to where the assistant begins to speak."""
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))


def encode(tokenizer: Any, conversations: Sequence[Conversation], longest: int) -> Examples:
    """Tokens and labels of all conversations, each cut at `longest` tokens. Raises UserError for a
    conversation that the template refuses."""
    texts, spans, unlearned, unseen = [], [], 0, 0
    for conversation in conversations:
        text, learned = _rendered(tokenizer, conversation)
        texts.append(_beginning(tokenizer, text, longest))
        spans.append(learned)
        answers = sum(message["role"] == "assistant" for message in conversation.messages)
        unlearned += answers - len(learned)
        unseen += sum(
            message["role"] != "assistant" and message["content"].strip() not in text
            for message in conversation.messages
        )
    # The template has put the special tokens already.
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    kept, cut, dropped = [], 0, 0
    for ids, offsets, learned in zip(encoded["input_ids"], encoded["offset_mapping"], spans, strict=True):
        labels = [
            token if any(begin <= at < end for begin, end in learned) else IGNORED
            for token, (at, _) in zip(ids, offsets, strict=True)
        ]
        cut += len(ids) > longest
        if all(label == IGNORED for label in labels[:longest]):
            dropped += 1
        else:
            kept.append(Example(ids[:longest], labels[:longest]))
    return Examples(kept, cut, dropped, unlearned, unseen)


def _beginning(tokenizer: Any, text: str, longest: int) -> str:
    """A text, or as much of one that is far longer as has more tokens than are kept: each token of the rest
    would cost a hundred bytes, and a book has millions."""
    size = CHARACTERS * longest
    while 2 * size < len(text):
        if len(tokenizer(text[:size], add_special_tokens=False)["input_ids"]) > longest + MORE:
            return text[:size]
        size *= 4
    return text


def _rendered(tokenizer: Any, conversation: Conversation) -> tuple[str, list[tuple[int, int]]]:
    """The text, and from where to where in it the assistant speaks, the end token included."""
    messages = list(conversation.messages)
    answers = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    try:
        befores = [prompt_text(tokenizer, messages[:at]) for at in answers]
        uptos = [_text(tokenizer, messages[: at + 1]) for at in answers]
    except Exception as error:  # a template raises jinja2's errors, and whatever its own code runs into
        raise UserError(
            f"{conversation.where}: the chat template refuses it: {error}",
            hint="look at the order of its roles; many templates know no system or tool message",
        ) from error
    if not uptos[-1].startswith(befores[-1]):
        raise UserError(
            f"{conversation.where}: with the answer, the chat template writes another prompt than without",
            hint="give another template with --chat_template FILE",
        )
    text = uptos[-1]
    if _after_end(tokenizer, text, len(befores[-1]), len(text)) is None:
        text = uptos[-1] = text.rstrip("\n") + tokenizer.eos_token
    return text, [
        (len(before), _after_end(tokenizer, text, len(before), len(upto)) or len(upto))
        for before, upto in zip(befores, uptos, strict=True)
        # Some templates write an answer differently once another question follows.
        if text.startswith(before) and text.startswith(upto)
    ]


def _text(tokenizer: Any, messages: Sequence[Message]) -> str:
    return str(tokenizer.apply_chat_template(list(messages), tokenize=False))


def _after_end(tokenizer: Any, text: str, begin: int, end: int) -> int | None:
    """Where the token ends that ends the answer: a line break that often follows is never generated. None
    where there is none but in the answer's own words."""
    at = text.rfind(tokenizer.eos_token, begin, end)
    after = at + len(tokenizer.eos_token)
    return None if at < 0 or text[after:end].strip() else after
