"""All that `top` knows of one card and a job on it. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from rich.text import Text

from clusterctl.messages.top import Job
from clusterctl.report.harmless import harmless
from clusterctl.report.runs import span
from clusterctl.report.top import UNKNOWN, HostLine, memory, model, number, share
from clusterctl.report.top_page import sparkline
from clusterctl.store.sample import GpuSample, Sample

_SHORTEST_SPARK, _LONGEST_SPARK = 20, 60
_BESIDE_SPARK = 40


class Details(msgspec.Struct, frozen=True, kw_only=True):
    """``samples``: what the host did in the last minutes, oldest first. ``said``: the last lines of the rank.
    ``commands``: what a person may type to look closer. ``ended``: the job is not there any more."""

    line: HostLine
    gpu: int | None = None
    job: Job | None = None
    ended: bool = False
    samples: tuple[Sample, ...] = ()
    said: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    now: float


def lines(details: Details, *, width: int) -> list[Text]:
    """For a screen of that width; what is longer goes on in another line, so that nothing is lost."""
    found = [*_now(details), Text(""), *_curves(details, width)]
    if details.job is not None:
        found += [Text(""), *_job(details.job, details.now, ended=details.ended)]
    if details.said:
        found += [Text(""), _title("its last lines"), *(Text(f"  {harmless(line)}") for line in details.said)]
    found += [Text(""), _title("to type"), *(Text(f"  {harmless(line)}") for line in details.commands)]
    return found


def _now(details: Details) -> list[Text]:
    line, seen = details.line, details.line.seen
    where = harmless(line.host) + (f", GPU {details.gpu}" if details.gpu is not None else "")
    found = [Text(where, style="bold")]
    if line.problem:
        found.append(Text(harmless(line.problem), style="red"))
    if seen is None:
        return found if line.problem else [*found, Text("no answer yet", style="dim")]
    if line.problem:
        found.append(Text(f"last heard {span(max(0.0, details.now - line.at))} ago", style="dim"))
    load = UNKNOWN if seen.load is None else f"{seen.load:.2f}"
    found.append(
        Text(
            f"{share(seen.cpu)} of {seen.cores or UNKNOWN} cores at work, load {load},"
            f" memory {memory(seen.memory, seen.memory_total)}"
        )
    )
    if details.gpu is not None and seen.gpus is not None and details.gpu < len(seen.gpus):
        card = seen.gpus[details.gpu]
        if card is None:
            return [*found, Text("this GPU is lost: its driver does not know it any more", style="red")]
        told = (
            f"{model(card)}: {share(card.use)} at work, memory {memory(card.memory, card.total)},"
            f" {number(card.temperature)} °C, {number(card.watts)} W"
        )
        reasons = GpuSample(held_back=card.held_back).reasons
        found.append(Text(told + (f", clocks held back: {', '.join(reasons)}" if reasons else "")))
    return found


def _curves(details: Details, width: int) -> list[Text]:
    samples = details.samples
    if len(samples) < 2:
        return [Text("no samples yet", style="dim")]
    most = max(_SHORTEST_SPARK, min(_LONGEST_SPARK, width - _BESIDE_SPARK))
    shown = samples[-most:]
    whole = details.line.seen.memory_total if details.line.seen is not None else None
    found = [
        _title(f"the last {span(shown[-1].time - shown[0].time)}".ljust(most + 13) + "now  least   most")
    ]
    if details.gpu is not None:
        cards = [_card(sample, details.gpu) for sample in shown]
        found.append(_curve("GPU", [card.use for card in cards], most))
        degrees = [None if card.temperature is None else float(card.temperature) for card in cards]
        found.append(_curve("GPU °C", degrees, most, percent=False))
    found.append(_curve("cores", [sample.cpu for sample in shown], most))
    used = [None if each.memory is None or not whole else each.memory / whole for each in shown]
    found.append(_curve("memory", used, most))
    return found


def _curve(name: str, values: Sequence[float | None], most: int, *, percent: bool = True) -> Text:
    told = [each for each in values if each is not None]
    spark = sparkline(values, most=most, top=1.0 if percent else None)
    numbers = (values[-1], min(told, default=None), max(told, default=None))
    words = (UNKNOWN if each is None else f"{each:.0%}" if percent else f"{each:.0f}" for each in numbers)
    return Text(f"  {name:<7}{spark:<{most}}{''.join(word.rjust(7) for word in words)}")


def _card(sample: Sample, index: int) -> GpuSample:
    cards = sample.gpus or ()
    return (cards[index] if index < len(cards) else None) or GpuSample()


def _job(job: Job, now: float, *, ended: bool) -> list[Text]:
    since = (
        ", has ended" if ended else "" if job.since is None else f", for {span(max(0.0, now - job.since))}"
    )
    held = "" if job.memory is None else f", holds {memory(job.memory, None)} of the card"
    found = [_title(f"{harmless(job.user)}, pid {job.pid}{since}{held}"), Text(f"  {harmless(job.command)}")]
    if job.run:
        rank = "" if job.rank is None else f", rank {job.rank}"
        found.append(Text(f"  run {harmless(job.run)}{rank}"))
    return found


def _title(text: str) -> Text:
    return Text(text, style="dim")
