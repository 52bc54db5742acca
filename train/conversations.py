"""Conversations to learn from: read from files in the shapes that people have, or from the hub.

A row is one of (more columns are ignored, `system` may stand beside the first two, capitals do not matter):

    {"prompt": ..., "response": ...}                        also "question", "query"; "answer", "completion"
    {"instruction": ..., "input": ..., "output": ...}       also "context"; it may be missing or empty
    {"messages": [{"role": "user", "content": ...}, ...]}   also "conversations" with "from" and "value"
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rows
from errors import UserError
from rows import BadRow

Message = dict[str, str]
QUESTIONS = ("prompt", "instruction", "question", "query", "input")
ANSWERS = ("response", "completion", "output", "answer")
ADDED = ("input", "context")
"""Columns whose text follows the question; a prompt is whole."""
TALKS = ("messages", "conversations")
ROLES = ("system", "user", "assistant", "tool")
OTHER_NAMES = {
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "developer": "system",
}
SHAPES = "prompt + response, instruction + output (input), or messages"


@dataclass(frozen=True)
class Conversation:
    """`messages` end with an answer of the assistant. `where` names the line it came from, for people."""

    messages: tuple[Message, ...]
    where: str


def read(what: str) -> list[Conversation]:
    """All conversations of a file, a directory of such files, or a hub's data set (`NAME` or `NAME:SPLIT`).

    Raises UserError that names file and line of the first bad row, and how many more there are.
    """
    found: list[Conversation] = []
    problems: list[str] = []
    for where, row in rows.read(what):
        try:
            found.append(Conversation(tuple(_messages(row)), where))
        except BadRow as problem:
            problems.append(f"{where}: {problem}")
    if problems:
        more = f" (bad rows in all: {len(problems):,})" if problems[1:] else ""
        raise UserError(problems[0] + more, hint=f"every row has {SHAPES}")
    if not found:
        raise UserError(f"{what} holds no conversation", hint=f"every row has {SHAPES}")
    return found


def _messages(row: Any) -> list[Message]:
    if isinstance(row, BadRow):
        raise row
    if not isinstance(row, dict):
        raise BadRow(f"a row is an object with columns, not {_kind(row)}")
    row = _named_plainly(row)
    talk = _the_one(row, TALKS, "conversation")
    asked = _the_one(row, QUESTIONS, "question")
    told = _the_one(row, ANSWERS, "answer")
    system = [] if _is_blank(row.get("system")) else [{"role": "system", "content": _text(row, "system")}]
    if talk and not (_is_blank(row[talk]) and asked):
        if asked and told:
            raise BadRow(f"{talk!r} and {asked!r} could both be the conversation")
        turns = _turns(row[talk], talk)
        if system and turns[0]["role"] == "system":
            raise BadRow("a column 'system', and a message of the system as well")
        return [*system, *turns]
    if asked is None:
        raise BadRow(f"no columns to learn from, only {', '.join(row) or 'none'}")
    added = [column for column in ADDED if column != asked and not _is_blank(row.get(column))]
    if added and asked == "prompt":
        raise BadRow(f"'prompt' and {added[0]!r} could both be the question")
    question = "\n\n".join(_text(row, column) for column in (asked, *added))
    answer = _text(row, told or ("output" if asked == "instruction" else "response"))
    return [*system, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _the_one(row: dict[str, Any], names: Sequence[str], what: str) -> str | None:
    """Which of the columns `names` is the `what`; one that may be added to another only where it is alone."""
    there = [name for name in names if name in row]
    filled = [name for name in there if not _is_blank(row[name])]
    found = [name for name in filled if name not in ADDED] or filled
    if found[1:]:
        raise BadRow(f"{found[0]!r} and {found[1]!r} could both be the {what}")
    return next(iter(found or there), None)


def _is_blank(value: Any) -> bool:
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def _named_plainly(row: dict[Any, Any]) -> dict[str, Any]:
    """With the names of columns in small letters, where that leaves them apart."""
    plain = {str(name).strip().lower(): value for name, value in row.items()}
    return plain if len(plain) == len(row) else {str(name): value for name, value in row.items()}


def _text(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        raise BadRow(
            f"{column!r} is {_kind(value)}, not text"
            if column in row
            else f"no {column!r}, only {', '.join(row)}"
        )
    if not value.strip():
        raise BadRow(f"{column!r} is empty")
    return _whole(value, repr(column))


def _whole(text: str, what: str) -> str:
    """Text that can be written: JSON may escape the half of a character."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise BadRow(f"{what} holds half a character (\\ud800 to \\udfff)")
    return text


def _turns(turns: Any, column: str) -> list[Message]:
    # A cell of a CSV file holds the list as text.
    if isinstance(turns, str):
        try:
            turns = json.loads(turns)
        except ValueError as error:
            raise BadRow(f"{column!r} is text that is not JSON") from error
    if not isinstance(turns, list):
        raise BadRow(f"{column!r} is {_kind(turns)}, not a list")
    if not turns:
        raise BadRow(f"{column!r} is empty")
    found = [_turn(turn, number) for number, turn in enumerate(turns, 1)]
    if found[-1]["role"] != "assistant":
        raise BadRow(f"the last message is the {found[-1]['role']}'s: there is no answer to learn")
    if len(found) == 1:
        raise BadRow("an answer without a question")
    return found


def _turn(turn: Any, number: int) -> Message:
    if not isinstance(turn, dict):
        raise BadRow(f"message {number} is {_kind(turn)}, not an object with role and content")
    role = turn.get("role", turn.get("from"))
    role = OTHER_NAMES.get(str(role), role)
    if role not in ROLES:
        raise BadRow(f"message {number} has the role {role!r}, not one of {', '.join(ROLES)}")
    if turn.get("tool_calls") or turn.get("function_call"):
        raise BadRow(f"message {number} calls a tool: a call is learned as text in its content only")
    content = turn.get("content", turn.get("value"))
    if isinstance(content, list) and all(
        isinstance(part, dict) and set(part) == {"type", "text"} for part in content
    ):
        content = "".join(str(part["text"]) for part in content)
    if not isinstance(content, str):
        raise BadRow(f"the content of message {number} is {_kind(content)}, not text")
    if role == "assistant" and not content.strip():
        raise BadRow(f"message {number}, an answer, is empty")
    return {"role": str(role), "content": _whole(content, f"message {number}")}


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "a truth value", dict: "an object", list: "a list", str: "text"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
