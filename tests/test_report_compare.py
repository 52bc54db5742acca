"""A comparison on the screen and as a page."""

from __future__ import annotations

import re

import msgspec
import pytest
from rich.console import Console

from clusterctl.advise.compare.judge import judge
from clusterctl.advise.compare.model import Comparison
from clusterctl.report.compare import render, trial_line, verdict
from clusterctl.report.html.compare import charts, page
from tests.test_advise_compare import compared, failed, recorded, trial

HOSTILE = "</style><script>alert(1)</script><img src=x onerror=a()>\u202e\x1b[2J"


def on_screen(comparison: Comparison, width: int = 80) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(render(comparison, judge(comparison)))
    return capture.get()


def test_a_comparison_fits_a_narrow_screen() -> None:
    offload = msgspec.structs.replace(failed("zero2-offload"), repetition=1)
    base = recorded()
    strategies = (*base.strategies, offload.strategy)
    shown = on_screen(msgspec.structs.replace(base, strategies=strategies, trials=(*base.trials, offload)))
    assert max(map(len, shown.splitlines())) <= 80 and "…" not in shown
    assert re.search(r"^zero2 +5.77 +4.2 +8.66 +13.4 +67 +252 +0.99–1.06 s +7.3 +7.22 *$", shown, re.M)
    assert "recommended  zero1: as fast as ddp" in shown
    assert "losses: the same within 1e-5 (fp32) over 12 steps" in shown


def test_a_failure_is_a_row_with_its_cause() -> None:
    shown = on_screen(compared(trial("ddp"), failed("zero3")))
    assert re.search(r"^zero3 +– *$", shown, re.M) and "zero3: it broke" in shown


def test_trials_are_told_as_they_end() -> None:
    whole = compared(trial("ddp"), failed("zero1"))
    assert trial_line(whole.trials[0], whole) == "ddp 1/2: 25 steps timed, 1 s each"
    assert trial_line(whole.trials[1], whole) == "zero1 1/2: it broke"


def test_a_deviation_is_named_with_its_step() -> None:
    alike = judge(compared(trial("ddp"), trial("zero1")))
    assert verdict(alike.parity) == "losses: the same to the last bit (fp32) over 30 steps"
    found = judge(compared(trial("ddp"), trial("zero1", loss=1.5)))
    assert (
        verdict(found.parity)
        == "losses: not the same within 1e-5 (fp32): zero1 leaves ddp at step 1, by 5.0e-01 at most (step 3)"
    )


def test_the_page_is_one_file_with_all_charts() -> None:
    comparison = recorded()
    found = page(comparison, judge(comparison))
    assert found.count("<svg") == 4 and "zero1: as fast as ddp" in found
    assert not re.search(r"(src|href)=|url\(|@import|<script|\son\w+=", found)
    assert "n/a" in found  # MFU of a CPU


@pytest.mark.parametrize("what", ["script", "strategy", "cause", "device", "host"])
def test_what_hosts_and_users_say_has_no_effect_on_a_page(what: str) -> None:
    base = compared(trial("ddp"), failed("zero1"))
    text = msgspec.json.encode(base).decode()
    known = {
        "script": '"train.py"',
        "strategy": '"zero1"',
        "cause": '"it broke"',
        "device": '""',
        "host": '"h1"',
    }
    replaced = text.replace(known[what], msgspec.json.encode(HOSTILE).decode())
    comparison = msgspec.json.decode(replaced, type=Comparison)
    assert comparison != base
    found = page(comparison, judge(comparison))
    assert "<script" not in found and "<img" not in found and "\x1b" not in found and "\u202e" not in found
    assert found.count("</style>") == 1


def test_nothing_measured_is_a_page_too() -> None:
    comparison = compared(failed("ddp"))
    found = judge(comparison)
    assert charts(comparison, found) == {}
    assert "no strategy was measured" in page(comparison, found)
    assert "no strategy was measured" in on_screen(comparison)
