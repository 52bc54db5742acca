"""`clusterctl why` on the screen, and the page of all it knows."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from clusterctl.advise.signatures import SIGNATURES
from clusterctl.checks.families import FAMILIES
from clusterctl.report.signatures import render
from clusterctl.report.why import after, page
from tests.test_advise_explain import OOM, PEER, cause, of, raised

ROOT = Path(__file__).parents[1]
RUN = "20260101-120000-aaaa"


def shown(found: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=80, no_color=True, highlight=False)
    console.print(page(found, Path("/runs") / RUN), crop=False)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_cause_and_hint_come_first_then_the_proof_then_what_followed() -> None:
    lines = shown(of(raised(OOM), raised(PEER, host="h0", rank=0), log=f"step 1\n{OOM}"))
    assert lines[0] == "✗ failed: h1 rank 1: the GPU's memory is used up: 20.00 GiB asked for"
    assert lines[1].startswith("hint: a smaller micro batch")
    assert f"  at  /runs/{RUN}/logs/h1/rank-1.log:2  (root: gpu.memory)" in lines
    assert lines[-2].startswith("after it  1 more failed of it on h0 (rank 0): its connection to a peer")


def test_what_is_not_known_is_said_and_shown() -> None:
    lines = shown(of(raised("ValueError: bad batch")))
    assert lines[0] == "✗ failed: h1 rank 1: ValueError: bad batch"
    assert lines[1] == "no known signature: the last lines that it left"
    assert "  ValueError: bad batch" in lines
    assert not any(line.startswith("hint") for line in lines)


def test_a_run_that_did_not_fail_has_its_sentence() -> None:
    assert shown(of(None, status="succeeded")) == [f"run {RUN} succeeded: nothing to explain"]
    stopped = cause(kind="operator", message="stopped", rank=None, host="")
    assert shown(of(stopped, status="stopped")) == [
        f"run {RUN} was stopped on request: nothing failed before"
    ]


def test_what_clusterctl_itself_says_needs_no_signature() -> None:
    busy = cause(kind="preflight", message="slot 0 is busy with run r1 of ann", rank=None, log="")
    assert shown(of(busy, status="refused")) == ["✗ refused: h1: slot 0 is busy with run r1 of ann"]


def test_the_page_is_the_table() -> None:
    assert (ROOT / "docs" / "why.md").read_text() == render()


def test_hints_name_checks_that_exist() -> None:
    codes = {rule.code for _, rules in FAMILIES for rule in rules}
    families = {code.partition(".")[0] for code in codes}
    for signature in SIGNATURES:
        for names in re.findall(r"(?:--only|checks) ([a-z][\w.,-]*)", signature.hint):
            for name in filter(None, names.rstrip(".").split(",")):
                assert name in codes | families, (signature.code, name)


@pytest.mark.parametrize(
    ("status", "words", "told"),
    [
        ("lost", "lost: nobody reaches it", ": h1 rank 1: nobody reaches it"),
        ("stopped", "stopped by the operator (Ctrl-C)", " by the operator (Ctrl-C)"),
        ("failed", "lost its mind", ": h1 rank 1: lost its mind"),
    ],
)
def test_a_status_is_said_once(status: str, words: str, told: str) -> None:
    assert after(status, cause(host="h1", rank=1), words) == told
