"""A plan before it runs, and an outcome after: what `launch` shows. No I/O."""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from clusterctl.advise.hang_names import count
from clusterctl.checks.evaluate import Report
from clusterctl.engines import deepspeed
from clusterctl.engines.command import node_argv
from clusterctl.inventory.fold import fold
from clusterctl.inventory.model import Inventory
from clusterctl.network.model import Network
from clusterctl.plan.model import Code, GitState, Hangs, LaunchPlan, NodePlan, Setting
from clusterctl.plan.variables import shown
from clusterctl.report import findings
from clusterctl.report.harmless import harmless
from clusterctl.report.pull import size
from clusterctl.settings import RUN

_STARTS = {
    "torchrun": "torchrun, static ranks",
    "deepspeed-pdsh": "deepspeed --launcher pdsh",
    "deepspeed-no-ssh": "deepspeed --no_ssh on every host",
}

_OF_THE_RUN = ("name.master", "name.master-local")
"""Faults of what was set for the whole run: without the host they are told of, the next has them."""


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
    curable = not failures or any(finding.code not in _OF_THE_RUN for finding in failures)
    if curable and ready and len(ready) < len(inventory.hosts):
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
        _row("world", f"{count(plan.world_size, 'rank')} on {count(len(plan.nodes), 'host')}"),
        _row("master", f"{plan.master_addr}:{plan.master_port}"),
        _row("hangs", _hangs(plan.hangs)),
        _row("code", _code(plan)),
        *_notes(plan),
        *_around(plan),
        _row("logs", _logs(plan)),
    ]
    if plan.start == "deepspeed-pdsh":
        own = f"PDSH_SSH_ARGS_APPEND={shlex.quote(plan.pdsh_ssh_args)} " if plan.pdsh_ssh_args else ""
        parts.append(_row("runs", own + shlex.join(["deepspeed", *deepspeed.pdsh_argv(plan, "HOSTFILE")])))
    everywhere = _common(plan)
    own = f"~/.clusterctl/node/{plan.run}/NODE_RANK"
    parts += ["", Text("variables on every host", style="bold"), *(_setting(s, own) for s in everywhere)]
    for node in plan.nodes:
        ranks = f"rank {node.ranks[0]}" if len(node.ranks) == 1 else f"ranks {node.ranks[0]}-{node.ranks[-1]}"
        title = Text.assemble("\n", (node.host, "bold"), f"  node rank {node.node_rank}, {ranks}")
        parts.append(title)
        here = f"~/.clusterctl/node/{plan.run}/{node.node_rank}"
        argv = node_argv(plan, node)
        if argv is not None:
            text = " ".join(
                part.replace("{run_dir}", here) if "{run_dir}" in part else shlex.quote(part) for part in argv
            )
            parts.append(Text("  " + text, overflow="ignore", no_wrap=True))
        if node.workdir:
            parts.append(Text(f"  in {node.workdir} instead of {plan.code.root}", style="dim"))
        parts += [_setting(s, here) for s in node.settings if s not in everywhere]
        parts += [Text(f"  unset {name}") for name in node.removed]
    parts += ["", Text("nothing was started (--dry-run)", style="dim")]
    return Group(*parts)


def _hangs(hangs: Hangs) -> str:
    if not hangs.timeout:
        return "nobody looks for them (--hang-timeout 0)"
    limit = f"{hangs.timeout:g} s without a sign of work"
    if hangs.learned:
        limit += ", more where the run is used to that"
    end = "then stopped" if hangs.action == "stop" else "then told (--on-hang report)"
    return f"{limit}: ranks are looked at, {end} if they hang"


def _row(label: str, value: str) -> Text:
    return Text.assemble((f"{label:<8}", "dim"), value, overflow="ignore", no_wrap=True)


def _setting(setting: Setting, run_dir: str) -> Text:
    value = shown(setting)
    value = value.replace("{run_dir}", run_dir) if value.startswith("{run_dir}/") else shlex.quote(value)
    return Text.assemble(
        f"  {setting.name}={value}",
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


def _logs(plan: LaunchPlan) -> str:
    if not plan.log_limit:
        return "all that ranks print, however much"
    return f"up to {size(plan.log_limit)} of each rank, its beginning and the newest"


def _notes(plan: LaunchPlan) -> list[RenderableType]:
    differences = _differences(plan.code.git)
    about_code = [*plan.code.notes, *([differences] if differences else [])]
    dim = [Text(" " * 8 + note, style="dim", no_wrap=True, overflow="ignore") for note in about_code]
    return [*dim, *(_row("note", note) for note in plan.notes)]


def _differences(git: GitState | None) -> str:
    """``12 files differ from git HEAD 1a2b3c4, 3 files are not in git``; "" for what is all committed."""
    parts = []
    if git is not None and git.changed:
        verb = "file differs" if git.changed == 1 else "files differ"
        parts.append(f"{git.changed} {verb} from git HEAD {git.commit[:7]}")
    if git is not None and git.untracked:
        parts.append(f"{git.untracked} {'file is' if git.untracked == 1 else 'files are'} not in git")
    return ", ".join(parts)


def _around(plan: LaunchPlan) -> list[RenderableType]:
    """What becomes of the run without its controller, and what follows it, where that is not as usual."""
    rows: list[RenderableType] = []
    if plan.on_disconnect == "continue":
        lease = RUN.lease(plan.on_disconnect) / 3600
        rows.append(_row("alone", f"hosts go on for {lease:g} h without a controller"))
    if plan.on_end:
        rows.append(_row("on end", harmless(plan.on_end)))
    if plan.track:
        rows.append(_row("track", f"metrics go to {plan.track}"))
    if plan.notify:
        rows.append(_row("notify", ", ".join(plan.notify)))
    return rows


def _what_travels(code: Code) -> str:
    where = f"{code.root} (git root)" if code.repository else code.root
    inside = f", run in {code.subdirectory}" if code.subdirectory else ""
    return f"{code.files} file{'' if code.files == 1 else 's'}, {size(code.size)} from {where}{inside}"


def opening(plan: LaunchPlan, directory: Path) -> RenderableType:
    """What is about to run, in a few lines."""
    layout = ", ".join(_ranks(node) for node in plan.nodes[:4]) + (", ..." if len(plan.nodes) > 4 else "")
    return Group(
        _row("run", f"{plan.run}, {_STARTS[plan.start]}, master {plan.master_addr}:{plan.master_port}"),
        _row("ranks", f"{plan.world_size}: {layout}"),
        _row("code", _what_travels(plan.code) if plan.code.digest else _code(plan)),
        *_notes(plan),
        *_around(plan),
        _row("logs", str(directory / "logs")),
    )


def _ranks(node: NodePlan) -> str:
    first, last = node.ranks[0], node.ranks[-1]
    return f"{node.host} [{first}]" if first == last else f"{node.host} [{first}-{last}]"
