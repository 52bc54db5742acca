"""What each strategy needs of a GPU, a host and the network; the recommended one line by line. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from clusterctl.advise.fit.job import Job, World
from clusterctl.advise.fit.memory import Line
from clusterctl.advise.fit.recommend import Advice, Candidate
from clusterctl.advise.fit.shapes import Shape

SCHEMA = "clusterctl.fit/1"
_MARKS = {
    "fits": ("✓", "green"),
    "tight": ("!", "yellow"),
    "too large": ("✗", "red"),
    "unknown": ("?", "magenta"),
}


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """All that is shown."""

    model: str
    shape: Shape
    job: Job
    world: World
    notes: tuple[str, ...]
    advice: Advice
    strategy: str = ""
    """Which one is shown line by line; empty for the recommended one."""


def render(page: Page) -> RenderableType:
    """The question, a row for each strategy, the recommendation."""
    return Group(
        _question(page),
        *(Text(f"  {note}", style="dim") for note in page.notes),
        Text(),
        _table(page),
        *_small_print(page),
        *_recommended(page),
    )


def encode(page: Page) -> str:
    """One JSON object; sizes are bytes, times are seconds."""
    document = {"schema": SCHEMA, **msgspec.to_builtins(page)}
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def _question(page: Page) -> Text:
    shape, job, world = page.shape, page.job, page.world
    how = {
        "full": "all weights",
        "lora": f"LoRA rank {job.lora_rank}",
        "qlora": f"QLoRA rank {job.lora_rank}",
    }
    said = Text.assemble(
        (count(shape.parameters), "bold"),
        f" parameters, {page.model}\n",
        f"{shape.layers} layers, width {shape.hidden}, ",
        f"vocabulary {shape.vocabulary:,}\n" if shape.vocabulary else "no vocabulary\n",
        f"{how[job.method]}, {job.precision}, {job.optimizer}; ",
        f"{job.micro_batch} x {job.sequence} tokens a micro-batch",
    )
    if job.accumulation > 1:
        said.append(f", {job.accumulation} accumulated")
    if job.checkpointing:
        said.append(", activations checkpointed")
    hosts = len(world.ranks)
    said.append(f"\n{world.size} rank{'s' * (world.size > 1)} on {hosts} host{'s' * (hosts > 1)}")
    if world.device is not None:
        said.append(f", {world.device / 1e9:.1f} GB each")
    elif world.on_cpus:
        said.append(" with CPUs" + (f", {world.host / 1e9:.1f} GB a host" if world.host is not None else ""))
    if world.bandwidth:
        said.append(f", {world.bandwidth / 1e9:.2f} GB/s between hosts")
    return said


def _table(page: Page) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", expand=False)
    unit = "per rank" if page.world.on_cpus else "per GPU"
    table.add_column("")
    table.add_column("strategy")
    for name in (unit, "range", "host RAM", "sent/step", "time", "batch"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in page.advice.candidates:
        mark, style = _MARKS[each.verdict]
        best = page.advice.ranked[:1] == (each.strategy.name,)
        table.add_row(
            Text(mark, style=f"bold {style}"),
            Text(each.strategy.name, style="bold" if best else ""),
            _lacking(each, "device", size(each.device.peak.bytes)),
            Text(_range(each.device.peak), style="dim"),
            _lacking(each, "host", size(each.host.peak.bytes)),
            size(each.traffic.bytes),
            "–" if each.traffic.seconds is None else duration(each.traffic.seconds),
            "–" if not each.largest else str(each.largest),
        )
    return table


def _lacking(each: Candidate, what: str, text: str) -> Text:
    return Text(text, style="red" if each.lacks == what else "")


def _small_print(page: Page) -> list[Text]:
    over = ", over gloo" if page.world.library == "gloo" else ""
    said = ["batch: the largest micro-batch that fits", f"sent/step: by each rank in an optimizer step{over}"]
    if page.world.bandwidth and len(page.world.ranks) > 1:
        said.append("time: to send that between hosts, before computing hides any of it")
    disks = [each for each in page.advice.candidates if each.disk]
    said += [f"{each.strategy.name}: {size(each.disk)} of NVMe on a host" for each in disks]
    if page.shape.family == "assumed":
        said.append("only the number of parameters is given: activations and logits are guesses")
    elif page.shape.assumed:
        said.append(f"{page.shape.family}: parameters as transformers counts them, activations are guesses")
    return [Text(f"  {line}", style="dim") for line in said]


def _recommended(page: Page) -> list[RenderableType]:
    advice = page.advice
    shown: list[RenderableType] = [Text()]
    label = "recommended  " if advice.best is not None else ""
    for at, reason in enumerate(advice.reasons):
        first = at == 0
        shown.append(
            Text.assemble((label if first else " " * len(label), "dim"), (reason, "bold" if first else ""))
        )
    if (chosen := advice.named(page.strategy)) is not None:
        if chosen is not advice.best:
            shown.append(Text(f"{chosen.strategy.name}, as asked: {chosen.verdict}", style="bold"))
        shown.append(_lines(chosen.device.lines))
        peak, when = size(chosen.device.peak.bytes), _WHEN[chosen.device.phase]
        shown.append(Text(f"  the most at once: {peak}, at {when}"))
    if len(advice.ranked) > 1:
        shown.append(Text(f"  after {advice.ranked[0]}: {', '.join(advice.ranked[1:])}", style="dim"))
    return shown if len(shown) > 1 else []


_WHEN = {
    "loss": "the loss going backward",
    "backward": "the backward pass",
    "end of backward": "the end of the backward pass",
    "step": "the optimizer's step",
}


def _lines(lines: Iterable[Line]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 2), pad_edge=False, show_header=False, expand=False)
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("", style="dim")
    for each in lines:
        table.add_row(f"  {each.name}", size(each.bytes), "" if each.low == each.high else _range(each))
    return table


def _range(line: Line) -> str:
    low, high = size(line.low), size(line.high)
    if low.split()[1] == high.split()[1]:
        low = low.split()[0]
    return f"{low}–{high}"


def size(count: int) -> str:
    """``512 kB``, ``1.5 MB``, ``112 GB``: three digits."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if count >= unit:
            return _digits(count / unit, name)
    return _digits(count / 1000, "kB")


def count(number: int) -> str:
    """``6.74 B``, ``124 M``."""
    for unit, name in ((10**12, "T"), (10**9, "B"), (10**6, "M")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:,}"


def duration(seconds: float) -> str:
    """``25 s``, ``4 min``, ``0.12 s``."""
    if seconds >= 600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def _digits(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"
