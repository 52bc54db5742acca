"""A plan before it runs, and an outcome after: what `launch` shows. No I/O."""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from clusterctl.checks.evaluate import Report
from clusterctl.engines import deepspeed
from clusterctl.engines.command import node_argv
from clusterctl.inventory.fold import fold
from clusterctl.inventory.model import Inventory
from clusterctl.network.model import Network
from clusterctl.plan.model import Code, LaunchPlan, NodePlan, Setting
from clusterctl.plan.variables import shown
from clusterctl.report import findings
from clusterctl.store.outcome import Cause, Outcome

_STARTS = {
    "torchrun": "torchrun, static ranks",
    "deepspeed-pdsh": "deepspeed --launcher pdsh",
    "deepspeed-no-ssh": "deepspeed --no_ssh on every host",
}
_TRACEBACK_LINES = 12


def refusal(report: Report, network: Network, inventory: Inventory) -> RenderableType:
    """Why nothing was started, worst first."""
    failures = [finding for finding in report.findings if finding.severity == "fail"]
    unheard = [host for host, verdict in report.hosts.items() if verdict == "unknown"]
    parts: list[RenderableType] = [findings.render(failures, hosts=len(inventory.hosts))]
    if network.problem and not any(finding.code.startswith("net.") for finding in failures):
        parts.append(Text(f"no network for all hosts: {network.problem}"))
    if unheard and not failures:
        parts.append(Text(f"no answer from {fold(unheard)}"))
    ready = report.ready
    hint = "`clusterctl doctor` shows everything there is to know"
    if ready and len(ready) < len(inventory.hosts):
        sick = "@".join(host for host in inventory.names if host not in ready)
        hint = f"launch without the others: --exclude {shlex.quote(sick)}; {hint}"
    parts.append(Text.assemble(("not started", "bold red"), ": nothing runs on any host (exit code 120)"))
    parts.append(Text.assemble(("hint: ", "cyan"), hint))
    return Group(*parts)


def plan_json(plan: LaunchPlan) -> str:
    """The plan with each node's ``engine`` argv; secret values hidden."""
    document = msgspec.to_builtins(plan)
    for node, entry in zip(plan.nodes, document["nodes"], strict=True):
        entry["settings"] = [{"name": s.name, "value": shown(s), "origin": s.origin} for s in node.settings]
        entry["engine"] = node_argv(plan, node)
    if plan.start == "deepspeed-pdsh":
        document["launcher"] = ["deepspeed", *deepspeed.pdsh_argv(plan, "HOSTFILE")]
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def plan_text(plan: LaunchPlan) -> RenderableType:
    """Per host: command, directory, and every variable with its origin; what is equal everywhere, once."""
    command = shlex.join([*plan.command, *plan.arguments])
    parts: list[RenderableType] = [
        _row("engine", _STARTS[plan.start]),
        _row("script", command.replace("'{python}'", "python").replace("{python}", "python")),
        _row("world", f"{plan.world_size} ranks on {len(plan.nodes)} hosts"),
        _row("master", f"{plan.master_addr}:{plan.master_port}"),
        _row("code", _code(plan)),
        *_notes(plan),
    ]
    if plan.start == "deepspeed-pdsh":
        parts.append(_row("runs", shlex.join(["deepspeed", *deepspeed.pdsh_argv(plan, "HOSTFILE")])))
    everywhere = _common(plan)
    parts += ["", Text("variables on every host", style="bold"), *(_setting(s) for s in everywhere)]
    for node in plan.nodes:
        ranks = f"rank {node.ranks[0]}" if len(node.ranks) == 1 else f"ranks {node.ranks[0]}-{node.ranks[-1]}"
        title = Text.assemble("\n", (node.host, "bold"), f"  node rank {node.node_rank}, {ranks}")
        parts.append(title)
        argv = node_argv(plan, node)
        if argv is not None:
            here = f"~/.clusterctl/node/{plan.run}/{node.node_rank}"
            text = " ".join(
                part.replace("{run_dir}", here) if "{run_dir}" in part else shlex.quote(part) for part in argv
            )
            parts.append(Text("  " + text, overflow="ignore", no_wrap=True))
        if node.workdir:
            parts.append(Text(f"  in {node.workdir} instead of {plan.code.root}", style="dim"))
        parts += [_setting(s) for s in node.settings if s not in everywhere]
        parts += [Text(f"  unset {name}") for name in node.removed]
    parts += ["", Text("nothing was started (--dry-run)", style="dim")]
    return Group(*parts)


def _row(label: str, value: str) -> Text:
    return Text.assemble((f"{label:<8}", "dim"), value, overflow="ignore", no_wrap=True)


def _setting(setting: Setting) -> Text:
    return Text.assemble(
        f"  {setting.name}={shlex.quote(shown(setting))}",
        (f"   {setting.origin}", "dim"),
        overflow="ignore",
        no_wrap=True,
    )


def _common(plan: LaunchPlan) -> tuple[Setting, ...]:
    first, *rest = plan.nodes
    return tuple(s for s in first.settings if all(s in node.settings for node in rest))


def _code(plan: LaunchPlan) -> str:
    code = plan.code
    if not code.digest:
        return f"{code.root} as it is on every host (--no-sync)"
    what = _what_travels(code)
    if code.in_place:
        return f"{what}, in place where a host has the same content there, else a copy per run"
    return f"{what}, a copy per run on every host"


def _notes(plan: LaunchPlan) -> list[RenderableType]:
    return [Text(" " * 8 + note, style="dim", no_wrap=True, overflow="ignore") for note in plan.code.notes]


def _what_travels(code: Code) -> str:
    where = f"{code.root} (git root)" if code.repository else code.root
    inside = f", run in {code.subdirectory}" if code.subdirectory else ""
    return f"{code.files} files, {code.size / 10**6:.1f} MB from {where}{inside}"


def opening(plan: LaunchPlan, directory: Path) -> RenderableType:
    """What is about to run, in a few lines."""
    layout = ", ".join(_ranks(node) for node in plan.nodes[:4]) + (", ..." if len(plan.nodes) > 4 else "")
    return Group(
        _row("run", f"{plan.run}, {_STARTS[plan.start]}, master {plan.master_addr}:{plan.master_port}"),
        _row("ranks", f"{plan.world_size}: {layout}"),
        _row("code", _what_travels(plan.code) if plan.code.digest else _code(plan)),
        *_notes(plan),
        _row("logs", str(directory / "logs")),
    )


def _ranks(node: NodePlan) -> str:
    return f"{node.host} [{node.ranks[0]}]" if len(node.ranks) == 1 else f"{node.host} {list(node.ranks)}"


def closing(plan: LaunchPlan, outcome: Outcome, directory: Path) -> RenderableType:
    """How it ended: the cause first, then what is left where, then where to read on."""
    parts: list[RenderableType] = [""]
    good = outcome.status == "succeeded"
    mark = ("✓ ", "bold green") if good else ("✗ ", "bold red")
    title = Text.assemble(mark, (outcome.status, "bold"), f" after {_duration(outcome.seconds)}")
    if outcome.cause is not None:
        title.append(f": {_where(outcome.cause)}{outcome.cause.message}")
    parts.append(title)
    if outcome.cause is not None and outcome.cause.traceback:
        tail = outcome.cause.traceback.rstrip().splitlines()[-_TRACEBACK_LINES:]
        parts += [Text("  " + line, style="dim", no_wrap=True, overflow="ignore") for line in tail]
    if outcome.collateral and outcome.status not in ("stopped", "timeout"):  # there, all ended by our signal
        hosts = dict.fromkeys(cause.host for cause in outcome.collateral if cause.host)
        ended = f"{len(outcome.collateral)} other failure" + ("s" if len(outcome.collateral) > 1 else "")
        parts.append(Text(f"  {ended} on {fold(hosts)} came after it", style="dim"))
    parts.append(_left(outcome))
    parts.append(
        Text.assemble(
            ("logs  ", "dim"), str(directory / "logs"), *_damaged(outcome), no_wrap=True, overflow="ignore"
        )
    )
    if outcome.exit_code:
        parts.append(Text.assemble(("exit  ", "dim"), f"{outcome.exit_code}, {_meaning(outcome)}"))
    if outcome.status == "refused":
        hint = "`clusterctl status` shows that run, `clusterctl stop` ends it; --include chooses other slots"
        parts.append(Text.assemble(("hint: ", "cyan"), hint))
    return Group(*parts)


def _left(outcome: Outcome) -> Text:
    told = {host: count for host, count in outcome.left_behind.items() if count is not None}
    total = sum(told.values())
    text = Text.assemble(("left  ", "dim"))
    text.append(
        f"{total} processes left on {len(told)} of {len(outcome.left_behind)} hosts",
        style="" if total == 0 and len(told) == len(outcome.left_behind) else "bold yellow",
    )
    silent = [host for host, count in outcome.left_behind.items() if count is None]
    if silent:
        text.append(f"; {fold(silent)} could not be asked, and ends its ranks itself when the lease runs out")
    return text


def _damaged(outcome: Outcome) -> list[tuple[str, str]]:
    if outcome.incomplete_logs:
        return [(f"  (not complete: {fold(outcome.incomplete_logs)})", "bold yellow")]
    return [("  (complete to the last byte)", "dim")]


def _where(cause: Cause) -> str:
    if cause.rank is not None:
        return f"{cause.host} rank {cause.rank}: "
    return f"{cause.host}: " if cause.host else ""


def _meaning(outcome: Outcome) -> str:
    if outcome.cause is not None and outcome.cause.rank is not None and outcome.status == "failed":
        return f"the exit code of rank {outcome.cause.rank}"
    return {
        "failed": "the exit code of the engine",
        "refused": "refused before the start",
        "lost": "a host was lost",
        "hung": "the run hung",
        "stopped": "stopped by the operator",
        "timeout": "the time limit",
        "error": "clusterctl could not carry the run through",
    }.get(outcome.status, "")


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m {rest:02}s" if hours else f"{minutes}m {rest:02}s"
