"""What to type to have a run once more, by what it was to be."""

from __future__ import annotations

import msgspec

from clusterctl.inventory.model import Host
from clusterctl.plan.redaction import Redaction
from clusterctl.plan.variables import is_secret
from clusterctl.session.intent import Intent
from clusterctl.session.options import LaunchOptions

_SWITCHES = {
    "force": "--force",
    "stdin": "--stdin",
    "home_caches": "--home-caches",
    "resume": "--resume",
}
_VALUES = {
    "env_file": "--env-file",
    "sync_limit": "--sync-limit",
    "on_end": "--on-end",
    "track": "--track",
    "log_limit": "--log-limit",
    "checkpoint_dir": "--checkpoint-dir",
    "spares": "--spares",
}


def retyped(intent: Intent) -> tuple[str, ...]:
    """The options of its launch, as from the directory of its code; a secret is named only, and copied from
    where the line is typed."""
    words = [*_hosts(intent), *_options(intent.options), *_variables(intent)]
    target = intent.target
    if target.hosts.ssh_config and not target.hosts.virtual:
        words += ["--ssh-config", str(target.hosts.ssh_config)]
    words += ["--profile", target.profile_name] if target.profile_name else []
    words += ["--venv-script", target.venv_script] if target.venv_script else []
    words += ["--transport", target.transport] if target.transport != "fabric" else []
    return tuple(words)


def _hosts(intent: Intent) -> list[str]:
    hosts = intent.target.hosts
    words = ["-H", hosts.inventory.source] if hosts.inventory.source else []
    chosen = (*hosts.inventory.hosts, *intent.spares)
    if {host.name for host in chosen} != set(hosts.known[: len(chosen)]):
        return [*words, "-i", "@".join(map(_with_slots, chosen))]
    counts = {len(host.slots) for host in chosen}
    first = all(host.slots == tuple(range(len(host.slots))) for host in chosen)
    whole = all(len(host.slots) == host.declared_slots for host in chosen)
    if not whole and not (first and len(counts) == 1):
        return [*words, "-i", "@".join(map(_with_slots, chosen))]
    words += ["--nodes", str(len(chosen))]
    return words if whole else [*words, "--gpus-per-node", str(counts.pop())]


def _with_slots(host: Host) -> str:
    if len(host.slots) == host.declared_slots:
        return host.name
    return f"{host.name}:{','.join(map(str, host.slots))}"


def _options(options: LaunchOptions) -> list[str]:
    told = msgspec.structs.asdict(options)
    words = ["--engine", "deepspeed"] if options.engine == "deepspeed" else []
    words += [word for name, word in _SWITCHES.items() if told[name]]
    for name, word in _VALUES.items():
        words += [word, Redaction().text(told[name])] if told[name] else []
    words += ["--workdir", "."] if options.workdir else []
    words += [] if options.sync else ["--no-sync"]
    words += [] if options.python else ["--no-python"]
    words += [] if options.local_rank else ["--no-local-rank"]
    words += ["--max-restarts", str(options.max_restarts)] if options.max_restarts else []
    words += ["--on-hang", options.on_hang] if options.on_hang != "stop" else []
    words += ["--on-disconnect", options.on_disconnect] if options.on_disconnect else []
    for word, seconds in (("--time-limit", options.time_limit), ("--hang-timeout", options.hang_timeout)):
        words += [word, f"{seconds:g}s"] if seconds is not None else []
    for each in options.notify:
        words += ["--notify", each]
    return words


def _variables(intent: Intent) -> list[str]:
    settings = (each for own in intent.layers.values() for each in own.merged())
    typed = {each.name: each.value for each in settings if each.origin == "--env"}
    return [
        word
        for name, value in typed.items()
        for word in ("--env", name if is_secret(name) else f"{name}={value}")
    ]
