from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

TRAIN = Path(__file__).resolve().parents[1] / "train"
sys.path.insert(0, str(TRAIN))

import conversations  # noqa: E402
from errors import UserError  # noqa: E402

ASKED = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]


def lines(path: Path, *rows: Any) -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def messages(path: Path) -> list[list[dict[str, str]]]:
    return [list(each.messages) for each in conversations.read(str(path))]


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        conversations.read(str(path))
    return caught.value.message


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2 + 2?", "response": "4"},
        {"prompt": "2 + 2?", "completion": "4", "id": 7},
        {"instruction": "2 + 2?", "output": "4"},
        {"instruction": "2 + 2?", "input": "", "output": "4"},
        {"instruction": "2 + 2?", "context": "", "response": "4", "category": "sums"},
        {"question": "2 + 2?", "answer": "4"},
        {"input": "2 + 2?", "output": "4"},
        {"Prompt": "2 + 2?", " Response ": "4"},
        {"messages": ASKED},
        {"messages": ASKED, "prompt": "2 + 2?", "id": 7},
        {"prompt": "", "question": "2 + 2?", "response": "", "answer": "4"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]}, ASKED[1]]},
        {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]},
    ],
)
def test_every_shape_is_the_same_conversation(row: dict[str, Any], tmp_path: Path) -> None:
    assert messages(lines(tmp_path / "data.jsonl", row)) == [ASKED]


def test_an_input_follows_its_instruction_and_a_system_text_comes_first(tmp_path: Path) -> None:
    row = {"instruction": "Add.", "input": "2 and 2", "output": "4", "system": "Be short."}
    (found,) = messages(lines(tmp_path / "data.jsonl", row))
    assert [each["content"] for each in found] == ["Be short.", "Add.\n\n2 and 2", "4"]
    assert [each["role"] for each in found] == ["system", "user", "assistant"]


def test_a_system_text_stands_before_messages_too(tmp_path: Path) -> None:
    row = {"messages": ASKED, "system": "Be short."}
    assert messages(lines(tmp_path / "data.jsonl", row)) == [
        [{"role": "system", "content": "Be short."}, *ASKED]
    ]


def test_columns_that_differ_by_capitals_only_stay_apart(tmp_path: Path) -> None:
    (found,) = messages(lines(tmp_path / "b.jsonl", {"prompt": "a", "Prompt": "b", "response": "c"}))
    assert [each["content"] for each in found] == ["a", "c"]


def test_a_table_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('\ufeffPrompt;Response\r\n"2 + 2?";4\r\n', encoding="utf-8")
    assert messages(tmp_path / "a.csv") == [ASKED]


def test_csv_json_lists_and_directories_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('prompt,response\n"2 +\n2?",4\nwho?,"me, and you"\n', encoding="utf-8")
    (tmp_path / "b.json").write_text(json.dumps([{"messages": ASKED}], indent=2), encoding="utf-8")
    lines(tmp_path / "c.json", *[{"prompt": "a", "response": "b"}] * 2)
    (tmp_path / "notes.md").write_text("no data", encoding="utf-8")
    found = conversations.read(str(tmp_path))
    assert [each.messages[-1]["content"] for each in found] == ["4", "me, and you", "4", "b", "b"]
    # The first row of the table takes two lines.
    assert [each.where.removeprefix(f"{tmp_path}/") for each in found] == [
        "a.csv line 2",
        "a.csv line 4",
        "b.json entry 1",
        "c.json line 1",
        "c.json line 2",
    ]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "a"}, "no 'response', only prompt"),
        ({"prompt": "a", "response": ""}, "'response' is empty"),
        ({"prompt": ["a"], "response": "b"}, "'prompt' is a list, not text"),
        ({"instruction": "a", "reply": "b"}, "no 'output', only instruction, reply"),
        (
            {"prompt": "a", "question": "b", "answer": "c"},
            "'prompt' and 'question' could both be the question",
        ),
        (
            {"prompt": "a", "context": "b", "response": "c"},
            "'prompt' and 'context' could both be the question",
        ),
        ({"prompt": "a", "response": "b", "output": "c"}, "'response' and 'output' could both be the answer"),
        (
            {"prompt": "a", "response": "b", "messages": ASKED},
            "'messages' and 'prompt' could both be the conv",
        ),
        (
            {"messages": [{"role": "system", "content": "s"}, *ASKED], "system": "t"},
            "a message of the system as",
        ),
        ({"messages": [{**ASKED[0], "content": "\ud83d"}, ASKED[1]]}, "message 1 holds half a character"),
        ({"messages": [ASKED[0], {**ASKED[1], "tool_calls": [{}]}]}, "message 2 calls a tool"),
        ({"messages": []}, "'messages' is empty"),
        ({"text": "a"}, "no columns to learn from, only text"),
        ("[1, 2]", "a row is an object with columns, not a list"),
        ('{"prompt": "a"', "not JSON"),
        ({"messages": "hello"}, "'messages' is text that is not JSON"),
        ({"messages": ASKED[:1]}, "the last message is the user's: there is no answer to learn"),
        ({"messages": ASKED[1:]}, "an answer without a question"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "message 1 has the role 'robot'"),
        ({"messages": [ASKED[0], {"role": "assistant", "content": None}]}, "content of message 2 is null"),
        ({"messages": [ASKED[0], {"role": "assistant", "content": " "}]}, "message 2, an answer, is empty"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(row: Any, words: str, tmp_path: Path) -> None:
    path = lines(tmp_path / "data.jsonl", {"messages": ASKED}, "", row, {"prompt": "a"})
    said = refusal(path)
    assert said.startswith(f"{path} line 3: ") and words in said
    assert said.endswith("(bad rows in all: 2)")


def test_an_object_that_fills_a_json_file_is_its_row(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps({"messages": ASKED}, indent=2))
    assert messages(tmp_path / "one.json") == [ASKED]
    (tmp_path / "wrapped.json").write_text(json.dumps({"data": [{"messages": ASKED}]}, indent=2))
    assert "entry 1: no columns to learn from, only data" in refusal(tmp_path / "wrapped.json")


def test_no_field_of_a_table_is_lost(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,response\na,b\n\nwho,me, and you\nx\n")
    said = refusal(tmp_path / "a.csv")
    assert "a.csv line 4: 3 fields where the first line names 2 (bad rows in all: 2)" in said
    (tmp_path / "b.csv").write_text("prompt,prompt,response\na,b,c\n")
    assert "has two columns 'prompt'" in refusal(tmp_path / "b.csv")


def test_what_datasets_saved_is_read_by_its_splits(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_list([{"messages": ASKED}] * 3)
    whole.save_to_disk(tmp_path / "one")
    assert messages(tmp_path / "one") == [ASKED] * 3
    datasets.DatasetDict({"train": whole, "test": whole.select([0])}).save_to_disk(tmp_path / "both")
    assert messages(tmp_path / "both") == [ASKED] * 3
    assert messages(Path(f"{tmp_path}/both:test")) == [ASKED]
    assert "has no split 'dev'" in refusal(Path(f"{tmp_path}/both:dev"))
    next((tmp_path / "one").glob("*.arrow")).unlink()
    assert "one cannot be read: " in refusal(tmp_path / "one")


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "holds no conversation" in refusal(lines(tmp_path / "empty.jsonl"))
    assert "there is no" in refusal(tmp_path / "missing.jsonl")
    assert "ending that is not known" in refusal(lines(tmp_path / "data.txt", "hello"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "gr\xfc\xdfe", "response": "x"}\n')
    assert "is not UTF-8" in refusal(tmp_path / "latin.jsonl")
    (tmp_path / "cut.csv").write_text('prompt,response\n"a,b\n', encoding="utf-8")
    assert "cannot be read to its end" in refusal(tmp_path / "cut.csv")
