"""What `doctor` writes beside its report: all that hosts said, a script of cures, a baseline, a hostfile."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clusterctl.cli import cure, new_file, screen
from clusterctl.errors import UsageError

if TYPE_CHECKING:
    from clusterctl.session.examine import Examination
    from clusterctl.session.material import Invocation

_MEND = "mend what is said above"


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where somebody wants them; "" is nowhere. ``force`` replaces files that exist."""

    capture: str = ""
    hostfile: str = ""
    script: str = ""
    baseline: str = ""
    page: str = ""
    junit: str = ""
    force: bool = False

    def check(self) -> None:
        """Raises UsageError where `write` would fail, before any host is asked."""
        if self.capture:
            from clusterctl.session.capture import check

            check(Path(self.capture))
        files = {
            "--hostfile-out": self.hostfile,
            "--fix-out": self.script,
            "--save-baseline": self.baseline,
            "--html": self.page,
            "--junit": self.junit,
        }
        if self.force and not any(files.values()):
            raise UsageError(
                f"--force is of use where a file is written: {', '.join(files)}",
                hint="--hostfile-out FILE --force",
            )
        for option, file in files.items():
            if file:
                new_file.check(Path(file), option, force=self.force)

    def write(self, seen: Examination, invocation: Invocation) -> None:
        if self.capture:
            seen.capture(self.capture, invocation)
            again = f"clusterctl doctor --replay {shlex.quote(self.capture)}"
            screen.err().print(f"what the hosts said is in {self.capture}; next: {again}", style="dim")
        if self.script:
            cure.write_script(seen, invocation, Path(self.script), force=self.force)
        if self.baseline:
            _write_baseline(seen, Path(self.baseline), force=self.force)
        if self.page:
            _write_page(seen, invocation, Path(self.page), force=self.force)
        if self.junit:
            _write_junit(seen, Path(self.junit), force=self.force)
        if self.hostfile:
            _write_hostfile(seen, invocation, Path(self.hostfile), force=self.force)


def _write_hostfile(seen: Examination, invocation: Invocation, output: Path, *, force: bool) -> None:
    from clusterctl.report.ready_hosts import hostfile

    text = hostfile(seen.material.inventory, seen.report, seen.material.taken)
    if not text:
        screen.complain("warning", f"no host is ready, so {output} was not written", _MEND)
        return
    new_file.write(output, text, "--hostfile-out", force=force)
    ready, total = len(seen.report.ready), len(seen.material.inventory.hosts)
    launch = invocation.launch_from(str(output))
    screen.err().print(f"wrote {output}: {ready} of {total} hosts; next: {launch}", style="dim")


def _write_page(seen: Examination, invocation: Invocation, output: Path, *, force: bool) -> None:
    from clusterctl.report.html.doctor import doctor_page

    text = doctor_page(
        seen.material.inventory,
        seen.answers.facts,
        seen.network,
        seen.report,
        seen.answers.reachability,
        how=invocation.how,
        launch=invocation.launch(chosen=True),
    )
    new_file.write(output, text, "--html", force=force)
    screen.err().print(f"wrote {output}", style="dim")


def _write_junit(seen: Examination, output: Path, *, force: bool) -> None:
    from clusterctl.report import junit

    new_file.write(output, junit.encode(seen.report, seen.answers.seconds), "--junit", force=force)
    screen.err().print(f"wrote {output}", style="dim")


def _write_baseline(seen: Examination, output: Path, *, force: bool) -> None:
    from clusterctl.session import baseline

    state = baseline.taken_from(seen)
    if not state.hosts:
        screen.complain(
            "warning", f"no host answered, so {output} was not written", "mend what is said above"
        )
        return
    if seen.report.verdict != "ready":
        screen.complain(
            "warning",
            f"the cluster is not ready: {output} will take it for good as it is",
            f"{_MEND}, then save it anew",
        )
    new_file.write(output, baseline.text(state), "--save-baseline", force=force)
    total = len(seen.material.inventory.hosts)
    screen.err().print(
        f"wrote {output}: the state of {len(state.hosts)} of {total} hosts; "
        f"next: clusterctl doctor --baseline {shlex.quote(str(output))}",
        style="dim",
    )
