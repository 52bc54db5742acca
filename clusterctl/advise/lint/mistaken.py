"""What a text is that is no config: people save a page, a pointer or Python in its place."""

from __future__ import annotations

import re

_KINDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^(<<<<<<<|>>>>>>>) ", re.MULTILINE), "a merge left its marks in it; choose one side"),
    (re.compile(r"\Aversion https://git-lfs"), "it is a pointer to the file: git lfs pull"),
    (re.compile(r"\A\s*<"), "it is a page of the web: download the file itself"),
    (re.compile("[“”]"), 'its quotes are curly: "'),
    (re.compile(r":\s*(True|False|None)\b"), "it is written in Python: true, false and null in JSON"),
    (re.compile(r":\s*-?(NaN|Infinity)\b"), "JSON has no NaN and no Infinity: a number"),
    (re.compile(r"\A(#.*\n|\s)*(---\s*\n|[\w-]+:(\s))"), "it looks like YAML: write it as JSON"),
    (re.compile(r"\A[A-Za-z0-9+/\s]{16,}={0,2}\s*\Z"), "it looks like base64: decode it with base64 -d"),
)


def advice(text: str) -> str:
    """What to do with a text that cannot be read as a config; empty where it may be anything."""
    return next((told for found, told in _KINDS if found.search(text)), "")
