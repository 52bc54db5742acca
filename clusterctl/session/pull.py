"""What a run wrote on its hosts comes here, and `clean` learns of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from clusterctl.ask import pull as asking
from clusterctl.ask.pull import OnBytes, Pulled, Source
from clusterctl.errors import ClusterctlError, UsageError
from clusterctl.inventory.fold import fold
from clusterctl.plan.model import LaunchPlan
from clusterctl.session.hosts import transport_of
from clusterctl.store.runs import RunDirectory, all_runs, find_run


def newest_that_worked() -> RunDirectory:
    """The newest run that goes on, else the newest that was not refused: that one has worked nowhere. Raises
    UsageError where there is no run."""
    newest = find_run(None)
    candidates = [newest, *reversed(all_runs())]
    return next((run for run in candidates if not _refused(run)), newest)


def _refused(directory: RunDirectory) -> bool:
    with suppress(ClusterctlError):
        outcome = directory.outcome()
        return outcome is not None and outcome.status == "refused"
    return False


def working_directories(directory: RunDirectory, host: str = "") -> dict[str, str]:
    """Host -> where the run worked there, of ``host`` or of every host on which it started. Raises UsageError
    where that is none."""
    names = [node.host for node in directory.plan().nodes]
    if host and host not in names:
        raise UsageError(f"{host} took no part in run {directory.run}", hint=f"its hosts: {fold(names)}")
    started = {
        str(event["host"]): str(event["cwd"]) for event in directory.events() if event["event"] == "started"
    }
    found = {name: started[name] for name in names if host in ("", name) and name in started}
    if not found:
        raise UsageError(
            f"no start of run {directory.run} is noted on {host or 'any host'}: nowhere to look for outputs",
            hint=f"clusterctl status {directory.run}",
        )
    return found


def pull(
    directory: RunDirectory,
    roots: Mapping[str, str],
    target: Path,
    *,
    path: str = "",
    on_bytes: OnBytes | None = None,
    on_done: Callable[[str], None] | None = None,
) -> tuple[Pulled, ...]:
    """Bring ``path``, seen from where each host worked, into ``target/<host>``, laid out as the code is;
    with an empty ``path`` all that the run made or changed anywhere in its code, which is noted for `clean`.
    Raises OSError where ``target`` cannot be written."""
    plan = directory.plan()
    link = transport_of(plan)
    try:
        with _beacon(plan, roots, path) as beacon:
            age = time.time() - directory.started()
            sources = {
                host: Source(
                    root=_top(root, plan.code.subdirectory),
                    path=path,
                    digest=plan.code.digest,
                    subdirectory=plan.code.subdirectory,
                    in_place=not plan.is_copy(root),
                    age=age,
                    beacon=beacon,
                )
                for host, root in roots.items()
            }
            answers = asking.pull(link, sources, target, on_bytes=on_bytes, on_done=on_done)
    finally:
        link.close()
    if not path:
        with suppress(OSError):  # what was pulled is here all the same
            for answer in answers:
                if not answer.problem:
                    directory.note_pulled(answer.host)
    return answers


def _top(root: str, subdirectory: str) -> str:
    """Where the code lies, in whose ``subdirectory`` the run worked."""
    return root.removesuffix(f"/{subdirectory}") if subdirectory else root


@contextmanager
def _beacon(plan: LaunchPlan, roots: Mapping[str, str], path: str) -> Iterator[str]:
    """The name of a file in the directory the run was launched in, as long as hosts may look for it; empty
    where there is nothing to be told by it."""
    with ExitStack() as stack:
        name = ""
        if not path and not all(plan.is_copy(root) for root in roots.values()):
            here = Path(plan.code.root) / plan.code.subdirectory
            with suppress(OSError):  # not here, or not to be written: then no host shares it with us
                made = stack.enter_context(NamedTemporaryFile(prefix=".clusterctl-", dir=here))
                name = Path(made.name).name
        yield name
