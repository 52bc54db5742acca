"""What a decoder found, in words for people."""

from __future__ import annotations

import msgspec
import pytest

from clusterctl.errors import in_words
from clusterctl.plan.model import LaunchPlan
from tests.test_run_machine import plan


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("run", 5, "run is a whole number, not text"),
        ("world_size", "two", "world_size is text, not a whole number"),
        ("nodes.0.ranks", {}, "nodes[0].ranks is a group of fields, not a list"),
        ("nodes.1.address", None, "nodes[1].address is empty, not text"),
        ("time_limit", "1h", "time_limit is text, not a number or empty"),
        ("start", "mpirun", "start is 'mpirun', which is not known here"),
    ],
)
def test_a_damaged_plan_is_described_in_words(path: str, value: object, told: str) -> None:
    document = msgspec.to_builtins(plan(2))
    inner = document
    *parents, last = path.split(".")
    for key in parents:
        inner = inner[int(key) if key.isdigit() else key]
    inner[last] = value
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(msgspec.json.encode(document), type=LaunchPlan)
    assert in_words(caught.value) == told


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (
            "Expected `str` matching regex 'x' - at `key` in `$.logs`",
            "key in logs has a form that is not allowed",
        ),
        ("Expected `int` >= 0 - at `$.offset`", "offset is not >= 0"),
        ("Expected `object`, got `array`", "it is a list, not a group of fields"),
    ],
)
def test_what_a_decoder_says_becomes_words(found: str, told: str) -> None:
    assert in_words(msgspec.ValidationError(found)) == told


def test_a_missing_field_and_half_a_file() -> None:
    with pytest.raises(msgspec.ValidationError) as missing:
        msgspec.json.decode(b"{}", type=LaunchPlan)
    assert in_words(missing.value) == "run is missing"
    for half in (b'{"run": ', b'{"run" 1}'):
        with pytest.raises(msgspec.DecodeError) as broken:
            msgspec.json.decode(half, type=LaunchPlan)
        assert in_words(broken.value) == "it is not complete JSON"
