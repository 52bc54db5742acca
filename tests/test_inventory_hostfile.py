"""Hostfile text: what is read, what is refused and where, what is warned about."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterctl.errors import UsageError
from clusterctl.inventory.hostfile import parse

SAMPLES = sorted((Path(__file__).parent.parent / "hostfiles").iterdir())


def test_hosts_keep_their_order_lines_and_slots() -> None:
    inventory = parse("# lab\n\nb slots=2\n\ta   slots=3  # spare\nc\tslots=1 max_slots=8\n", "hostfiles/lab")
    assert inventory.names == ("b", "a", "c")
    assert [host.line for host in inventory.hosts] == [3, 4, 5]
    assert inventory.hosts[1].slots == (0, 1, 2)
    assert inventory.world_size == 6
    assert inventory.warnings == ()


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_shipped_samples_read_without_a_warning(sample: Path) -> None:
    inventory = parse(sample.read_text(encoding="utf-8"), str(sample))
    assert inventory.world_size > 0
    assert inventory.warnings == ()


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("a slots=1\ngpu7\n", 2, "gpu7 slots=8"),
        ("a slots = 4\n", 1, "a slots=4"),
        ("a slots= 4\n", 1, "a slots=4"),
        ("a:4\n", 1, "a slots=4"),
        ("a 4\n", 1, "a slots=4"),
        ("a gpus=4\n", 1, "a slots=4"),
        ("a Slots=4\n", 1, "a slots=4"),
        ("a max_slots=9 slots=4\n", 1, "directly"),
        ("a slots=auto\n", 1, "a slots=8"),
        ("a slots=-1\n", 1, "a slots=8"),
        ("a slots=2\n\nb slots=1\na slots=2\n", 4, "one line"),
        ("\ufeff# lab\na slots=1\n", 1, "BOM"),
        ("a slots=99999999\n", 1, "number of GPUs"),
        ("a slots=" + "9" * 5000 + "\n", 1, "number of GPUs"),
    ],
)
def test_a_bad_line_is_named_with_its_cure(text: str, line: int, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, "hostfiles/lab")
    assert caught.value.message.startswith(f"hostfiles/lab line {line}: ")
    assert hint in caught.value.hint


def test_a_duplicate_names_the_first_line() -> None:
    with pytest.raises(UsageError, match="already on line 2"):
        parse("\na slots=2\na slots=2\n", "lab")


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n"])
def test_a_file_without_hosts_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="lab names no host"):
        parse(text, "lab")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a slots=4x", "read as slots=4"),
        ("a slots=4.5", "read as slots=4"),
        ("a slots=0", "a takes no part"),
        ("node[1-4] slots=2", "no ranges"),
        ("a:22 slots=2", "port is not split off"),
        ("a,b slots=2", "one host of exactly this name"),
        ("a slots=2 b slots=2", "second host"),
        ("a slots=2 fast", "'fast' after slots=2 is ignored"),
    ],
)
def test_what_deepspeed_misreads_gets_one_warning(line: str, words: str) -> None:
    (warning,) = parse(f"first slots=1\n{line}\n", "lab").warnings
    assert warning.where == "lab line 2"
    assert words in warning.message
    assert warning.hint


def test_a_byte_order_mark_is_no_part_of_the_name() -> None:
    inventory = parse("\ufeffa slots=2\n", "lab")
    assert inventory.names == ("a",)
    assert "byte order mark" in inventory.warnings[0].message


@pytest.mark.parametrize("line", ["a slots=2#c", "a slots=2 # b slots=3", "fe80::1 slots=2", "u@a slots=2"])
def test_harmless_lines_get_no_warning(line: str) -> None:
    assert parse(line, "lab").warnings == ()
