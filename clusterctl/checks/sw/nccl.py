"""The NCCL that is loaded, and the settings that it and DeepSpeed find on the hosts."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator

import msgspec

from clusterctl.checks.consistency import deviations, unlike
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Rule, Skipped, Verdict
from clusterctl.checks.sw.environment import steers_itself
from clusterctl.facts.model import Facts, Variable
from clusterctl.network.ifname import VARIABLES
from clusterctl.network.model import Setting

NCCL_LEVELS = ("VERSION", "WARN", "INFO", "ABORT", "TRACE")
"""What NCCL_DEBUG may be, in any case of letters (NCCL's src/debug.cc); anything else is silence."""


def _nccl_loaded(evidence: Evidence) -> Iterator[Verdict]:
    if evidence.quick:
        yield Skipped("not asked with --quick")
        return
    if not evidence.has_gpus:
        yield Skipped("no GPU on any host: gloo does the work")
        return
    loaded: dict[str, str] = {}
    for host, facts in evidence.facts.items():
        if facts.torch is None or not facts.torch.ok:
            yield Blocked(host, "torch was not imported")
        elif not facts.torch.nccl_version:
            if facts.nvidia.gpus and facts.python.torch_cuda and not facts.nvidia.soc:
                yield NotKnown(host, "torch did not tell its NCCL version")
        else:
            loaded[host] = facts.torch.nccl_version
    if wanted := evidence.expect.get("nccl"):
        yield from unlike(loaded, wanted, of="NCCL")
    else:
        yield from deviations(loaded, of="NCCL")


def _nccl_shadow(evidence: Evidence) -> Iterator[Verdict]:
    """Only a torch that brought a libnccl of its own can lose it to another: system and conda builds of torch
    load what they were built with."""
    if not evidence.has_gpus:
        yield Skipped("no GPU on any host: gloo does the work")
        return
    for host, facts in evidence.facts.items():
        own = next((name for name in facts.python.packages if name.startswith("nvidia-nccl")), "")
        loaded = facts.torch.nccl_path if facts.torch else ""
        if not own or (loaded and _belongs_to(facts, loaded)):
            continue
        told = f"loads {loaded}" if loaded else ""
        if not told and facts.python.nccl_first:
            told = f"LD_LIBRARY_PATH or LD_PRELOAD leads to {facts.python.nccl_first}"
        if told:
            yield Hit(
                hosts=(host,),
                observed=told,
                expected=f"the libnccl that came with torch, {facts.python.packages[own]}",
            )


def _net_plugin(evidence: Evidence) -> Iterator[Verdict]:
    if not evidence.has_gpus:
        yield Skipped("no GPU on any host: gloo does the work")
        return
    plugins = {host: facts.python.net_plugin.rpartition("/")[2] for host, facts in evidence.facts.items()}
    yield from deviations({host: plugin or "no NCCL network plugin" for host, plugin in plugins.items()})


def _belongs_to(facts: Facts, library: str) -> bool:
    prefix = facts.python.executable.rpartition("/bin/")[0]
    inside = bool(prefix) and prefix not in ("/usr", "/usr/local") and library.startswith(f"{prefix}/")
    return inside or "site-packages" in library or "dist-packages" in library


def _nccl_settings(evidence: Evidence) -> Iterator[Verdict]:
    """Settings that lie about on hosts: equal ones are told, hosts that deviate warned of.

    Where an activation line finds the libraries of its environment is each host's own affair.
    """
    by_name: defaultdict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    for host, facts in evidence.facts.items():
        for variable in facts.variables:
            if (variable.name, variable.origin) == ("LD_LIBRARY_PATH", "activation line"):
                continue
            said = evidence.setting(host, variable.name) or variable
            judged_elsewhere = (
                variable.name in VARIABLES or steers_itself(facts, variable.name) or _says_nothing(said)
            )
            if ".deepspeed_env" not in variable.origin and not judged_elsewhere:
                by_name[variable.name].setdefault(host, (said.value, said.origin))
    for name, settings in sorted(by_name.items()):
        if name == "CUDA_VISIBLE_DEVICES" and evidence.has_gpus:
            yield from _visible_devices(evidence, settings)
            continue
        told = {
            host: f"{name}={settings[host][0]} ({settings[host][1]})"
            if host in settings
            else f"{name} is unset"
            for host in evidence.facts
        }
        if len({settings[host][0] if host in settings else None for host in evidence.facts}) > 1:
            for hit in deviations(_alike_by_value(told, settings)):
                yield msgspec.structs.replace(hit, fix=_aligned(name, settings, hit.hosts))
        else:
            yield Hit(hosts=tuple(settings), observed=next(iter(told.values())), severity="info")


def _aligned(name: str, settings: dict[str, tuple[str, str]], hosts: tuple[str, ...]) -> str:
    """As the other hosts have it."""
    where = next((settings[host][1] for host in hosts if host in settings), "")
    place = f"take {name} out of {_file(where)}" if where else f"set {name} there too"
    value = next((value for host, (value, _) in settings.items() if host not in hosts), None)
    return place if value is None else f"{place}, or launch with --env {name}={shlex.quote(value)}"


def _file(origin: str) -> str:
    return origin if origin.startswith("/") else "the host's start-up files"


def _alike_by_value(told: dict[str, str], settings: dict[str, tuple[str, str]]) -> dict[str, str]:
    """One text for one value, wherever each host has it from."""
    first: dict[str, str] = {}
    for host, text in told.items():
        first.setdefault(settings[host][0] if host in settings else "", text)
    return {host: first[settings[host][0] if host in settings else ""] for host in told}


def _visible_devices(evidence: Evidence, settings: dict[str, tuple[str, str]]) -> Iterator[Verdict]:
    wanted = {entry.name: max(entry.slots, default=-1) + 1 for entry in evidence.inventory.hosts}
    for host, (shown, source) in settings.items():
        hides = len([each for each in shown.split(",") if each.strip()]) < wanted[host]
        yield Hit(
            hosts=(host,),
            observed=f"CUDA_VISIBLE_DEVICES={shown} ({source})" + " hides GPUs from the run" * hides,
            expected="unset: slots say which GPUs are used" if hides else "",
            severity="warn" if hides else "info",
            fix=f"take it out of {_file(source)}",
        )


def _says_nothing(setting: Setting | Variable) -> bool:
    return setting.name == "NCCL_DEBUG" and setting.value.upper() not in NCCL_LEVELS


def _nccl_debug(evidence: Evidence) -> Iterator[Verdict]:
    asked = False
    for host, facts in evidence.facts.items():
        lying = next((each for each in facts.variables if each.name == "NCCL_DEBUG"), None)
        said = evidence.setting(host, "NCCL_DEBUG") or lying
        if said is None:
            continue
        asked = True
        if _says_nothing(said):
            yield Hit(
                hosts=(host,),
                observed=f"NCCL_DEBUG={said.value} ({said.origin}) is no level of NCCL: it prints nothing",
                expected=f"one of: {', '.join(NCCL_LEVELS)}",
                cause=said.value,
            )
    if not asked:
        yield Skipped("NCCL_DEBUG is set nowhere")


def _deepspeed_env(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        found = [variable for variable in facts.variables if ".deepspeed_env" in variable.origin]
        local = [variable.name for variable in found if variable.name in VARIABLES]
        if local:
            yield Hit(
                hosts=(host,),
                observed=f"{found[0].origin.partition(':')[0]} sets {', '.join(local)} for every host alike",
                expected="interface names per host",
            )
        elif found:
            yield Hit(
                hosts=(host,),
                observed=f"{found[0].origin.partition(':')[0]} sets {', '.join(v.name for v in found)}",
                severity="info",
            )


RULES: tuple[Rule, ...] = (
    Rule(
        code="sw.nccl-loaded",
        severity="fail",
        looks_at="the NCCL that torch really loads",
        judge=_nccl_loaded,
        needs=("python", "gpus"),
        symptom="ncclInvalidUsage, “Mismatched NCCL version detected”, at the first collective",
        fix="install the same torch wheel everywhere, and look for another libnccl in LD_LIBRARY_PATH",
    ),
    Rule(
        code="sw.nccl-shadow",
        severity="warn",
        looks_at="where the loaded libnccl.so.2 lies",
        judge=_nccl_shadow,
        needs=("python", "settings", "gpus"),
        symptom="the NCCL version that pip shows is not the one that runs",
        fix="take its directory out of LD_LIBRARY_PATH and LD_PRELOAD",
    ),
    Rule(
        code="sw.net-plugin",
        severity="warn",
        looks_at="a network plugin for NCCL on all hosts or on none",
        judge=_net_plugin,
        needs=("python", "gpus"),
        symptom="some ranks speak the plugin's network and others TCP: a hang, or “NET/Socket” for all",
        fix="install the plugin on all hosts, or launch with --env NCCL_NET_PLUGIN=none",
    ),
    Rule(
        code="sw.nccl-env",
        severity="warn",
        looks_at="NCCL_, GLOO_, TORCH_NCCL_ and similar settings in the session and in nccl.conf files",
        judge=_nccl_settings,
        needs=("settings",),
        symptom="hosts behave differently, and settings given elsewhere seem to be ignored",
        fix="take it out of the file named, or set it for the run with --env",
    ),
    Rule(
        code="sw.nccl-debug",
        severity="warn",
        looks_at="whether NCCL knows the level that NCCL_DEBUG names",
        judge=_nccl_debug,
        needs=("settings",),
        symptom="a run fails in NCCL and its log says nothing of why",
        fix="NCCL_DEBUG=WARN names errors, INFO tells what was chosen as well",
    ),
    Rule(
        code="sw.ds-env",
        severity="warn",
        looks_at="interface names in .deepspeed_env, which go to every host alike",
        judge=_deepspeed_env,
        needs=("settings",),
        symptom="the name is right on one host only, and the others hang",
        fix="take the lines out: clusterctl sets them per host",
    ),
)
