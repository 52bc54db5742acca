"""What the pages name is there: files, verbs and options; and no option is without a word about it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from clusterctl.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING"))]
TEXT = "\n".join(page.read_text() for page in PAGES).replace("_", "-")  # also how an option may be spelled
ROOMS = {path.name for path in (ROOT / "clusterctl").iterdir() if path.is_dir()}
TOPS = {"clusterctl", "tests", "docs", "bench", "train", "examples"}
FILE = re.compile(r"(?<![\w/.])[\w-]+/[\w/.-]*\w")
OPTION = r"(?<![\w-])-"
TYPED = re.compile(r"clusterctl ([a-z][a-z-]*)((?: [a-z-]+(?=[ `\n]))?)([^`|#\n]*)")
# Where the verb's own words end: at a script, at another launcher typed as one, within a sentence.
OTHER_WORDS = re.compile(r" -- |, | \S+\.py\b| accelerate | torchrun ")


def verbs(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    yield name, command
    for inner in getattr(command, "commands", {}):
        yield from verbs(command.commands[inner], f"{name} {inner}".strip())


VERBS = dict(verbs(get_command(app)))


def spellings(verb: str) -> list[set[str]]:
    return [{*each.opts, *each.secondary_opts} for each in VERBS[verb].params if each.opts[0].startswith("-")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_file_of_ours_that_is_named_is_there(page: Path) -> None:
    quoted = re.findall(r"`([^`\n]+)`", page.read_text())
    for name in (each for text in quoted for each in FILE.findall(text)):
        top = name.partition("/")[0]
        is_ours = top in TOPS or (top in ROOMS and name.endswith(".py"))
        if is_ours and not re.search(r"[A-Z]{3}", name):
            assert (ROOT / name).exists() or (ROOT / "clusterctl" / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_an_option_that_is_typed_is_one_of_its_verb(page: Path) -> None:
    for verb, inner, rest in TYPED.findall(page.read_text()):
        verb, rest = (f"{verb}{inner}", rest) if f"{verb}{inner}" in VERBS else (verb, f"{inner}{rest}")
        if verb in VERBS:
            known = set().union(*spellings(verb), {"--help"})
            for option in re.findall(r" (--[a-z][\w-]*)", OTHER_WORDS.split(rest)[0]):
                assert option.replace("_", "-") in known, f"clusterctl {verb} {option}"


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb])
def test_every_option_is_named_on_some_page(verb: str) -> None:
    near = "\n".join(line for line in TEXT.splitlines() if f"clusterctl {verb}" in line)
    named = {"--help", *re.findall(rf"{OPTION}-[a-z][\w-]*", TEXT), *re.findall(rf"{OPTION}[a-z]\b", near)}
    for names in spellings(verb):
        assert names & named, f"clusterctl {verb}: {sorted(names)}"
