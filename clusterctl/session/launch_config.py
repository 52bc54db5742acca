"""The config that a launch's script is given, judged with what the hosts have told of themselves."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from clusterctl.advise.lint import arguments
from clusterctl.advise.lint.case import Linted
from clusterctl.errors import UsageError
from clusterctl.facts.model import Facts
from clusterctl.session import schemas
from clusterctl.session.lint import lint, machines_of
from clusterctl.session.options import LaunchOptions
from clusterctl.session.progress import Progress
from clusterctl.session.workload import Workload
from clusterctl.settings import LINT
from clusterctl.transport import Transport


def judged(
    options: LaunchOptions,
    work: Workload,
    facts: Mapping[str, Facts],
    ranks: int,
    link: Transport,
    progress: Progress,
) -> Linted | None:
    """None where the script names no config, or none of the files that travel with it: a file that lies on
    the hosts already may be another one. The shipped workload judges its own."""
    if not options.script or work.tree is None:
        return None
    start = Path(work.code.root) / work.code.subdirectory
    config = arguments.named(options.arguments, trainer=_is_trainer(options, start))
    if config is None or PurePosixPath(config.file).is_absolute():
        return None
    path = (start / config.file).resolve()
    if not path.is_file() or not path.is_relative_to(work.code.root):
        return None
    versions = {each.python.packages.get("deepspeed", "") for each in facts.values()}
    try:
        found = lint(
            str(path),
            ranks=ranks,
            reader=config.reader,
            arguments=options.arguments,
            machines=machines_of(facts),
            known=schemas.of_hosts(facts, link, progress),
            name=config.file,
        )
    except UsageError:
        return None  # no text, or larger than any config: the script will say what it makes of it
    return arguments.certain(found, config, same_version=versions == {found.deepspeed})


def lines(found: Linted) -> tuple[str, ...]:
    """What breaks the run, then what is to be looked at."""
    return tuple(
        f"{found.file}:{each.line}: {each.finding.observed}"
        for each in found.remarks
        if each.finding.severity in ("fail", "warn")
    )


def way_out(found: Linted) -> str:
    """What to do about the first failure, and how to see all."""
    fix = found.failing[0].finding.fix.partition("\n")[0]
    typed = f"clusterctl lint {shlex.quote(found.file)} --ranks {found.ranks} --reader {found.reader}"
    return f"{fix}; all of it: {typed}" if fix else typed


def _is_trainer(options: LaunchOptions, start: Path) -> bool:
    """Whether the script itself uses transformers; what it imports is not looked into."""
    try:
        with (start / options.script).open("rb") as stream:
            return b"transformers" in stream.read(LINT.max_bytes)
    except (OSError, ValueError):
        return False
