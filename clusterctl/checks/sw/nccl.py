"""The NCCL that is loaded, and the settings that it and DeepSpeed find on the hosts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from clusterctl.checks.consistency import deviations, unlike
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Rule, Skipped, Verdict
from clusterctl.network.ifname import VARIABLES


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
            if facts.nvidia.gpus and facts.python.torch_cuda:
                yield NotKnown(host, "torch did not tell its NCCL version")
        else:
            loaded[host] = facts.torch.nccl_version
    if wanted := evidence.expect.get("nccl"):
        yield from unlike(loaded, wanted, of="NCCL")
    else:
        yield from deviations(loaded, of="NCCL")


def _nccl_shadow(evidence: Evidence) -> Iterator[Verdict]:
    paths = {host: facts.torch.nccl_path for host, facts in evidence.facts.items() if facts.torch}
    if not any(paths.values()):
        yield Skipped("no host loaded a libnccl of its own")
        return
    for host, path in paths.items():
        if path and "site-packages" not in path and "dist-packages" not in path:
            yield Hit(hosts=(host,), observed=f"loads {path}", expected="the libnccl that came with torch")


def _nccl_settings(evidence: Evidence) -> Iterator[Verdict]:
    """Settings that lie about on hosts: equal ones are told, different ones warned of.

    Where an activation line finds the libraries of its environment is each host's own affair.
    """
    by_name: defaultdict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    for host, facts in evidence.facts.items():
        for variable in facts.variables:
            if (variable.name, variable.origin) == ("LD_LIBRARY_PATH", "activation line"):
                continue
            if ".deepspeed_env" not in variable.origin and variable.name not in VARIABLES:
                said = evidence.setting(host, variable.name) or variable
                by_name[variable.name][host] = (said.value, said.origin)
    for name, settings in sorted(by_name.items()):
        values = {value for value, _ in settings.values()}
        everywhere = len(settings) == len(evidence.facts)
        value, origin = next(iter(settings.values()))
        if name == "CUDA_VISIBLE_DEVICES" and evidence.has_gpus:
            for host, (shown, source) in settings.items():
                yield Hit(
                    hosts=(host,),
                    observed=f"{name}={shown} ({source}) hides GPUs from the run",
                    expected="unset: slots say which GPUs are used",
                )
        elif len(values) > 1 or not everywhere:
            where = "differs between hosts" if len(values) > 1 else f"is set on {len(settings)} of the hosts"
            yield Hit(
                hosts=tuple(settings),
                observed=f"{name} {where} ({value!r}, {origin})",
                expected="the same on all hosts, or unset",
            )
        else:
            yield Hit(hosts=tuple(settings), observed=f"{name}={value} ({origin})", severity="info")


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
        symptom="ncclInvalidUsage, “Mismatched NCCL version detected”, at the first collective",
        fix="install the same torch wheel everywhere, and look for another libnccl in LD_LIBRARY_PATH",
    ),
    Rule(
        code="sw.nccl-shadow",
        severity="warn",
        looks_at="where the loaded libnccl.so.2 lies",
        judge=_nccl_shadow,
        symptom="the NCCL version that pip shows is not the one that runs",
        fix="take its directory out of LD_LIBRARY_PATH (or LD_PRELOAD)",
    ),
    Rule(
        code="sw.nccl-env",
        severity="warn",
        looks_at="NCCL_, GLOO_, TORCH_NCCL_ and similar settings in the session and in nccl.conf files",
        judge=_nccl_settings,
        symptom="hosts behave differently, and settings given elsewhere seem to be ignored",
        fix="remove it from the file named, or set it for the run: --env NAME=VALUE",
    ),
    Rule(
        code="sw.ds-env",
        severity="warn",
        looks_at="interface names in .deepspeed_env, which go to every host alike",
        judge=_deepspeed_env,
        symptom="the name is right on one host only, and the others hang",
        fix="take the lines out: clusterctl sets them per host",
    ),
)
