"""What lint says of a config, for people and for programs. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from clusterctl.advise.lint.case import Linted, Origin, Reader
from clusterctl.checks.finding import Finding
from clusterctl.report.findings import render

SCHEMA = "clusterctl.lint/1"
_READERS: dict[Reader, str] = {
    "deepspeed": "as DeepSpeed reads it",
    "transformers": "as transformers' Trainer reads it",
    "script": "for a script that fills in what is missing",
}
_ORIGINS: dict[Origin, str] = {
    "installed": "installed here",
    "recorded": "known by clusterctl",
    "hosts": "as on the hosts",
}


def page(found: Linted) -> RenderableType:
    ranks = found.ranks
    count = f"for {ranks} rank{'s' * (ranks != 1)}" if ranks is not None else "for any number of ranks"
    known = f"DeepSpeed {found.deepspeed}, {_ORIGINS[found.origin]}"
    told = f"{found.file} {count}, {_READERS[found.reader]}; {known}"
    head = Text(told, style="dim")
    findings = tuple(located(found))
    if not findings:
        return Group(head, Text.assemble(("✓ ", "bold green"), "nothing is wrong with it"))
    return Group(head, Text(), render(findings, hosts=0), Text(), _verdict(findings))


def located(found: Linted) -> Iterator[Finding]:
    """The findings, each with the place that it is about."""
    for each in found.remarks:
        observed = f"{found.file}:{each.line}: {each.finding.observed}"
        yield msgspec.structs.replace(each.finding, observed=observed)


def encode(found: Linted) -> str:
    """One JSON object, indented."""
    document = {
        "schema": SCHEMA,
        "file": found.file,
        "ranks": found.ranks,
        "reader": found.reader,
        "deepspeed": found.deepspeed,
        "verdict": "fail" if found.failing else "pass",
        "findings": [{"line": each.line, **msgspec.to_builtins(each.finding)} for each in found.remarks],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def _verdict(findings: Sequence[Finding]) -> Text:
    failing = sum(each.severity == "fail" for each in findings)
    warned = sum(each.severity == "warn" for each in findings)
    if failing:
        return Text(
            f"{failing} would break the run" + (f", {warned} to look at" if warned else ""), "bold red"
        )
    if warned:
        return Text(f"it would start; {warned} to look at", "yellow")
    return Text("it would start", "green")
