"""What surrounds the packages on a host: architecture, proxies, caches, configuration of other launchers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from clusterctl.checks.consistency import deviations
from clusterctl.checks.remedy import at_launch, path, safe
from clusterctl.checks.rule import Evidence, Hit, Rule, Skipped, Verdict
from clusterctl.checks.safe import SetAside
from clusterctl.facts.model import Facts

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
CACHES = {"triton": ("TRITON_CACHE_DIR", "triton"), "deepspeed": ("TORCH_EXTENSIONS_DIR", "torch-extensions")}
"""Package -> the variable that moves its cache from the home directory, and a name for it in /tmp."""
HUB_PACKAGES = ("transformers", "datasets")
OFFLINE = ("1", "true", "yes", "on")

JUDGED_HERE = frozenset(
    (
        *PROXIES,
        "HF_HUB_OFFLINE",
        "TORCHINDUCTOR_CACHE_DIR",
        "TRITON_HOME",
        *(each for each, _ in CACHES.values()),
    )
)


def value_of(evidence: Evidence, host: str, name: str) -> str:
    """What a rank on ``host`` would find in the variable, in either case of letters; "" where it is unset."""
    setting = evidence.setting(host, name)
    if setting is not None:
        return setting.value
    facts = evidence.facts[host]
    return next((each.value for each in facts.variables if each.name.lower() == name.lower()), "")


def _architecture(evidence: Evidence) -> Iterator[Verdict]:
    yield from deviations({host: facts.architecture for host, facts in evidence.facts.items()})


def _proxy(evidence: Evidence) -> Iterator[Verdict]:
    for name in PROXIES:
        values = {host: value_of(evidence, host, name) for host in evidence.facts}
        told = {host: f"{name}={value}" if value else f"no {name}" for host, value in values.items()}
        if len(set(values.values())) > 1:
            # Each host may well have names of its own that it reaches directly.
            yield from deviations(told, severity="info" if name == "no_proxy" else None)
        elif any(values.values()):
            yield Hit(hosts=tuple(values), observed=next(iter(told.values())), severity="info")


def _accelerate(evidence: Evidence) -> Iterator[Verdict]:
    configs = {host: facts.accelerate_config for host, facts in evidence.facts.items()}
    if not any(configs.values()):
        yield Skipped("no default_config.yaml of accelerate on any host")
        return
    told = {host: f"default_config.yaml: {text}" if text else "none" for host, text in configs.items()}
    for hit in deviations(told):
        for host in hit.hosts:
            own = path(f"{evidence.facts[host].home}/.cache/huggingface/accelerate/default_config.yaml")
            cure = safe(SetAside(own)) if own and configs[host] else "copy it from another host"
            yield msgspec.structs.replace(hit, hosts=(host,), fix=cure, cause=hit.observed)


def _caches(evidence: Evidence) -> Iterator[Verdict]:
    tokens = Counter(facts.shared_token for facts in evidence.facts.values() if facts.shared_token)
    sharing = {host: facts for host, facts in evidence.facts.items() if tokens[facts.shared_token] > 1}
    if not sharing:
        yield Skipped("no home directory is shared")
    for package, (variable, folder) in CACHES.items():
        hosts = tuple(
            host
            for host, facts in sharing.items()
            if package in facts.python.packages and not value_of(evidence, host, variable)
        )
        if hosts and (package != "triton" or evidence.has_gpus):
            yield Hit(
                hosts=hosts,
                observed=f"{variable} is unset: {package} compiles into the home directory that hosts share",
                expected="a directory on a local disk; launch sets it, other ways to start do not",
                fix=at_launch(f"{variable}=/tmp/{folder}-{evidence.facts[hosts[0]].uid}"),
            )


def _hub(evidence: Evidence) -> Iterator[Verdict]:
    """Closed clusters are common, and a head that alone reaches the world too: only few without are odd."""
    closed = tuple(host for host in evidence.facts if _is_cut_off(evidence, host))
    if closed:
        few = len(closed) * 2 < len(evidence.facts)
        yield Hit(
            hosts=closed,
            observed="no default route and no proxy: huggingface.co cannot be reached, and HF_HUB_OFFLINE is "
            "not set",
            expected="a default route, as on the other hosts" if few else "",
            severity="warn" if few else "info",
        )


def _is_cut_off(evidence: Evidence, host: str) -> bool:
    facts = evidence.facts[host]
    return (
        not facts.default_device
        and any(package in facts.python.packages for package in HUB_PACKAGES)
        and value_of(evidence, host, "HF_HUB_OFFLINE").lower() not in OFFLINE
        and not value_of(evidence, host, "https_proxy")
        and not value_of(evidence, host, "all_proxy")
    )


def _shadows(evidence: Evidence) -> Iterator[Verdict]:
    """Many a project has a file of such a name and never meets it: it counts where something is broken."""
    for host, facts in evidence.facts.items():
        if facts.python.shadows:
            name = facts.python.shadows[0].rpartition("/")[2].partition(".")[0]
            broken = facts.python.error or (
                facts.torch is not None and not facts.torch.ok and facts.torch.error
            )
            yield Hit(
                hosts=(host,),
                observed=f"PYTHONPATH puts {facts.python.shadows[0]} before Python's own {name}"
                + (f": {broken.strip().splitlines()[-1]}" if broken else ""),
                expected="no file in PYTHONPATH with the name of a module of Python's own",
                severity="fail" if broken else "info",
                cause=f"shadows {bool(broken)}",
            )


def steers_itself(facts: Facts, name: str) -> bool:
    """Whether a variable is judged by a rule of this file, or named by another: for its libnccl, or because
    the loader complains of it in every session."""
    return (
        name.lower() in JUDGED_HERE
        or name in JUDGED_HERE
        or (name in ("LD_LIBRARY_PATH", "LD_PRELOAD") and bool(facts.python.nccl_first))
        or (name == "LD_PRELOAD" and "from LD_PRELOAD" in facts.complaints)
    )


RULES: tuple[Rule, ...] = (
    Rule(
        code="sw.arch",
        severity="warn",
        looks_at="the processor's architecture",
        judge=_architecture,
        needs=("system",),
        symptom="wheels and compiled extensions of one host do not run on another",
        fix="--exclude the odd host, or build one environment for each architecture",
    ),
    Rule(
        code="sw.proxy",
        severity="warn",
        looks_at="proxies in the environment of a session",
        judge=_proxy,
        needs=("settings",),
        symptom="downloads work on some hosts only, while the others wait at the first barrier",
        fix="set it for all in the profile's env, or take it out of the host's start-up files",
    ),
    Rule(
        code="sw.accelerate-config",
        severity="warn",
        looks_at="accelerate's default_config.yaml, but for the machine's rank",
        judge=_accelerate,
        needs=("settings",),
        symptom="precision or the number of machines differs on this host",
        fix="set aside the one that differs: ~/.cache/huggingface/accelerate/default_config.yaml",
    ),
    Rule(
        code="sw.caches",
        severity="info",
        looks_at="caches of compiled kernels in a home directory that hosts share",
        judge=_caches,
        needs=("settings", "disks", "python", "gpus"),
        symptom="“Stale file handle” or “cannot stat shared object” in ~/.triton: one rank dies, others hang",
    ),
    Rule(
        code="sw.hub",
        severity="warn",
        looks_at="a way to huggingface.co, or HF_HUB_OFFLINE",
        judge=_hub,
        needs=("settings", "routes", "python"),
        symptom="every rank of this host tries the hub for minutes before it goes on or gives up",
        fix=at_launch("HF_HUB_OFFLINE=1"),
    ),
    Rule(
        code="sw.pythonpath",
        severity="fail",
        looks_at="files in PYTHONPATH that stand before modules of Python's own",
        judge=_shadows,
        needs=("python",),
        symptom="python, or the import of torch, ends with an error in a module that is not at fault",
        fix="rename the file, or take its folder out of PYTHONPATH in the host's start-up files",
    ),
)
