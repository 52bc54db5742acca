"""How strategies compare, on a screen: a row for each, the same losses or not, which to take. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clusterctl.advise.compare.judge import Judgement, Row, Spread
from clusterctl.advise.compare.model import Comparison, Trial
from clusterctl.advise.compare.parity import Parity
from clusterctl.inventory.fold import fold
from clusterctl.report.html.axis import written

_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def render(comparison: Comparison, judged: Judgement) -> RenderableType:
    """What was done, the table, the verdict."""
    return Group(
        Text(question(comparison), style="dim"),
        *(Text.assemble(("note: ", "yellow"), said) for said in judged.cautions),
        Text(),
        _table(judged),
        *(Text(f"  {line}", style="dim") for line in small_print(judged)),
        *_failed(judged.rows),
        Text(),
        _parity(judged.parity),
        _recommended(judged),
    )


def question(comparison: Comparison) -> str:
    """``train/pretrain.py, 2 ranks on 2 hosts; 30 steps, 5 of them warm-up, 2 times each``."""
    hosts = len(comparison.places)
    ranks = comparison.ranks
    what = " ".join((comparison.script, *comparison.arguments))
    return (
        f"{what}\n{ranks} rank{'s' * (ranks != 1)} on {hosts} host{'s' * (hosts != 1)}, "
        f"{fold([place.host for place in comparison.places])}; {comparison.steps} steps, {comparison.warmup} "
        f"of them warm-up, {comparison.repeats} time{'s' * (comparison.repeats != 1)} each"
    )


def small_print(judged: Judgement) -> tuple[str, ...]:
    """What the columns mean."""
    said = []
    if any(row.held for row in judged.rows):
        said.append("memory: tensors of a rank, counted; gradients with the buffers they go in")
    if any(row.rate for row in judged.rows):
        said.append("tok/s: of one rank, by the middle step; step: the middle half of all")
    if any(row.sent is not None for row in judged.rows):
        said.append("sent: by a host in a step, counted at its interfaces; said: by clusterctl fit")
    return tuple(said)


def trial_line(trial: Trial, comparison: Comparison) -> str:
    """One trial that is over: ``ddp 1/2: 25 steps timed, 40 ms each``."""
    name = f"{trial.strategy} {trial.repetition}/{comparison.repeats}"
    if trial.ending != "measured":
        return f"{name}: {trial.cause}"
    timed = sorted(s.seconds for s in trial.steps if s.seconds and s.step > comparison.warmup)
    return f"{name}: {len(timed)} steps timed, {written(timed[len(timed) // 2], 's')} each"


def verdict(parity: Parity) -> str:
    """The same losses or not, in a sentence."""
    if parity.verdict is None:
        if parity.reference:
            return "losses: only one strategy told them, nothing to compare"
        return "losses: no strategy told them"
    digits = f"{parity.tolerance:.0e}".replace("e-0", "e-")
    limit = f"{digits} ({parity.precision})"
    if parity.verdict:
        worst = max(parity.deviations, key=lambda each: each.relative)
        if not worst.relative:
            return f"losses: the same to the last bit ({parity.precision}) over {parity.steps} steps"
        return (
            f"losses: the same within {limit} over {parity.steps} steps; {worst.strategy} is farthest from "
            f"{parity.reference}, {worst.relative:.1e} at step {worst.step}"
        )
    said = [
        f"{each.strategy} leaves {parity.reference} at step {each.first}, by {each.relative:.1e} at most "
        f"(step {each.step})"
        for each in parity.deviations
        if each.first is not None
    ]
    said += [f"{name} trained on another number of tokens a step" for name in parity.unlike]
    return f"losses: not the same within {limit}: {'; '.join(said)}"


def _table(judged: Judgement) -> Table:
    unit, name = memory_unit(judged.rows)
    sent_unit, sent_name = _unit([size for row in judged.rows for size in (row.sent, row.said_sent) if size])
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", expand=False)
    table.add_column("", no_wrap=True)
    kinds = any(row.held for row in judged.rows)
    columns = ["weights", "grads", "optim", "activ", f"peak {name}"] if kinds else []
    columns += ["tok/s", "step"]
    wire = any(row.sent is not None for row in judged.rows)
    columns += [f"sent {sent_name}", "said"] if wire else []
    mfu = any(row.mfu is not None for row in judged.rows)
    columns += ["MFU"] if mfu else []
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in judged.rows:
        style = "bold" if row.strategy == judged.best else ""
        if not row.measured:
            table.add_row(Text(row.strategy), Text("–", style="red"))
            continue
        cells = []
        if kinds:
            cells += memory_cells(row, unit)
        cells += [number(row.rate, ""), step_time(row.seconds)]
        if wire:
            cells += [_in(sent_unit, row.sent), _in(sent_unit, row.said_sent)]
        if mfu:
            cells.append("n/a" if row.mfu is None else f"{row.mfu:.1%}")
        table.add_row(Text(row.strategy, style=style), *(Text(cell, style=style) for cell in cells))
    return table


def memory_unit(rows: Sequence[Row]) -> tuple[int, str]:
    """One unit for all, in which the highest peak has three digits at most."""
    return _unit([row.held.peak for row in rows if row.held])


def _unit(sizes: Sequence[float]) -> tuple[int, str]:
    return next((each for each in _UNITS if max(sizes, default=0) >= each[0]), _UNITS[-1])


def _in(unit: int, size: float | None) -> str:
    return "n/a" if size is None else f"{size / unit:.3g}"


def memory_cells(row: Row, unit: int) -> list[str]:
    """The four kinds and the peak."""
    if row.held is None:
        return ["n/a"] * 5
    return [_in(unit, count) for count in (*row.held.kinds, row.held.peak)]


def number(value: Spread | None, unit: str) -> str:
    """The middle one."""
    if value is None:
        return "n/a"
    return f"{value.middle:,.0f}{unit}" if value.middle >= 100 else f"{value.middle:.3g}{unit}"


def step_time(value: Spread | None) -> str:
    """``38–41 ms``, ``0.99–1.06 s``."""
    if value is None:
        return "n/a"
    scale, unit = (1000.0, "ms") if value.high < 1 else (1.0, "s")
    digits = ".2f" if 1 <= value.high < 100 else ".3g"
    low, high = (f"{each * scale:{digits}}" for each in (value.low, value.high))
    return f"{low} {unit}" if low == high else f"{low}–{high} {unit}"


def size(count: float | None) -> str:
    """``12.3 MB``; ``n/a`` of None."""
    return "n/a" if count is None else written(float(count), "B")


def _failed(rows: Sequence[Row]) -> list[Text]:
    said = []
    for row in rows:
        if row.cause:
            said.append(Text.assemble((f"{row.strategy}: ", "red"), row.cause))
            if row.hint:
                said.append(Text.assemble(("hint: ", "cyan"), row.hint))
    return said


def _parity(parity: Parity) -> Text:
    style = {True: "green", False: "red", None: "dim"}[parity.verdict]
    return Text(verdict(parity), style=style)


def _recommended(judged: Judgement) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for at, reason in enumerate(judged.reasons):
        first = at == 0 and bool(judged.best)
        table.add_row("recommended" if first else "", Text(reason, style="bold" if first else ""))
    return table
