"""The same python and packages on all hosts, and those that the profile expects."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator

import msgspec

from clusterctl.checks.consistency import deviations, middle_of_others, unlike
from clusterctl.checks.finding import Severity
from clusterctl.checks.remedy import Remedy, package, path, shell
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Rule, Skipped, Verdict
from clusterctl.facts.model import Facts
from clusterctl.facts.versions import is_range, version

IMPORT_SLOW = 6.0


def _with_python(evidence: Evidence) -> dict[str, Facts]:
    return {host: facts for host, facts in evidence.facts.items() if not facts.python.error}


def _without_python(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        if facts.python.error:
            yield Blocked(host, "no python to ask")


MANY_PACKAGES = 3
"""A host that lacks torch and so many of what most others have is asked with another interpreter."""


def _bare(evidence: Evidence) -> tuple[str, ...]:
    """Hosts whose interpreter lacks torch and most of what the others have: one cause, told once."""
    asked = {host: facts.python.packages.keys() for host, facts in _with_python(evidence).items()}
    common = Counter(name for packages in asked.values() for name in packages)
    usual = {name for name, count in common.items() if 2 * count > len(asked)}
    lacking = {host: usual - packages for host, packages in asked.items()}
    return tuple(
        host
        for host, names in lacking.items()
        if "torch" in names and len(names) > MANY_PACKAGES and 2 * len(names) > len(usual)
    )


def _python(evidence: Evidence) -> Iterator[Verdict]:
    yield from _without_python(evidence)
    versions = {host: facts.python.version for host, facts in _with_python(evidence).items()}
    for host, told in versions.items():
        if not told:
            yield NotKnown(host, "the interpreter did not tell its version")
    known = {host: told for host, told in versions.items() if told}
    if wanted := evidence.expect.get("python"):
        yield from unlike(known, wanted, of="python")
        return
    minors = {host: _minor(told) for host, told in known.items()}
    yield from deviations(minors, of="python")


def _minor(told: str) -> str:
    found = version(told)
    return f"{found.major}.{found.minor}" if found else told


def _package(
    name: str, *, required: bool, severity: Severity, build: bool = True
) -> Callable[[Evidence], Iterator[Verdict]]:
    """One version everywhere or nowhere; ``required`` packages may not be missing everywhere either.

    Without ``build`` the tag behind a ``+`` is left to another rule, unless the profile asks for it.
    """

    def judge(evidence: Evidence) -> Iterator[Verdict]:
        yield from _without_python(evidence)
        asked = _with_python(evidence)
        bare = _bare(evidence)
        if name != "torch":
            for host in bare:
                yield Blocked(host, "its interpreter has few of the packages: sw.torch")
                del asked[host]
        versions = {host: facts.python.packages.get(name, "") for host, facts in asked.items()}
        wanted = evidence.expect.get(name, "")
        if not any(versions.values()) and not required and not wanted:
            yield Skipped(f"{name} is on no host")
            return
        lacking = tuple(host for host, told in versions.items() if not told)
        right = wanted or _newest(versions.values())
        for host in lacking:
            cure = _installed(asked[host], name, _whole(versions.values(), right))
            alone = host not in bare
            yield Hit(
                hosts=(host,),
                observed=f"{name} is not installed"
                + ("" if alone else f" in {asked[host].python.executable}, nor most of what the others have"),
                expected=f"{name} {right}".rstrip(),
                severity=severity,
                symptom=f"“No module named '{name.replace('-', '_')}'” there, while the other ranks wait",
                fix=cure if alone else msgspec.structs.replace(_ANOTHER, instead=cure.commands),
                cause="missing" if alone else "bare",
            )
        present = {
            host: told if build or wanted else told.partition("+")[0]
            for host, told in versions.items()
            if told
        }
        if wanted:
            hits = tuple(unlike(present, wanted, of=name, severity=severity))
        else:
            hits = tuple(deviations(present, of=name, severity=severity))
            # Without a majority nobody knows which is right.
            right = hits[0].expected.removeprefix(f"{name} ").partition(",")[0] if hits else ""
            right = right if version(right) else ""
        for hit in hits:
            for host in hit.hosts if right else ():
                cure = _installed(asked[host], name, _whole(versions.values(), right))
                yield msgspec.structs.replace(hit, hosts=(host,), fix=cure, cause=hit.observed)
            if not right:
                yield hit

    return judge


_ANOTHER = Remedy(
    advice="where the packages lie in another environment, name its interpreter in the profile, as "
    "`python: /path/to/venv/bin/python`"
)


def _whole(versions: Iterable[str], wanted: str) -> str:
    """With the build tag that most hosts have of it."""
    counted = Counter(told for told in versions if told in (wanted, f"{wanted}+{told.partition('+')[2]}"))
    return counted.most_common(1)[0][0] if counted else wanted


def _installed(facts: Facts, name: str, wanted: str) -> Remedy:
    python = path(facts.python.executable) if facts.python.executable else "python3"
    number, _, build = wanted.partition("+")
    asked = number if is_range(wanted) or not wanted else f"=={number}"
    values = (python, package(f"{name}{asked}"))
    if name == "torch" and re.fullmatch(r"cpu|cu\d{2,3}", build):
        index = f"https://download.pytorch.org/whl/{build}"
        return shell("{} -m pip install {} --index-url {}", values=(*values, index))
    return shell("{} -m pip install {}", values=values)


def _newest(versions: Iterable[str]) -> str:
    """Without its build tag: what pip would be asked for."""
    known = [found for found in map(version, versions) if found]
    return max(known).public if known else ""


def _torch(evidence: Evidence) -> Iterator[Verdict]:
    yield from _package("torch", required=True, severity="fail", build=False)(evidence)
    builds = {
        host: f"torch built for {_platform(facts)}"
        for host, facts in _with_python(evidence).items()
        if facts.python.torch_cuda is not None and "torch" in facts.python.packages and not _lacks_cuda(facts)
    }
    wanted = evidence.expect.get("cuda")
    if wanted:
        cuda = {host: evidence.facts[host].python.torch_cuda or "none (a CPU build)" for host in builds}
        yield from unlike(cuda, wanted, of="CUDA")
    else:
        yield from deviations(builds)


def _platform(facts: Facts) -> str:
    if facts.python.torch_cuda:
        return f"CUDA {facts.python.torch_cuda}"
    return f"ROCm {facts.python.torch_hip}" if facts.python.torch_hip else "CPU"


def _lacks_cuda(facts: Facts) -> bool:
    return bool(facts.nvidia.gpus) and facts.python.torch_cuda == ""


def _torch_build(evidence: Evidence) -> Iterator[Verdict]:
    """Hosts of one version and one CUDA, whose torch was nevertheless built from other sources."""
    alike: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for host, facts in _with_python(evidence).items():
        told = facts.python.packages.get("torch", "")
        if told:
            alike[told.partition("+")[0], _platform(facts)][host] = (
                f"{told}, git {(facts.python.torch_git or 'unknown')[:12]}"
            )
    for builds in alike.values():
        yield from deviations(builds, of="torch")


def _cpu_build(evidence: Evidence) -> Iterator[Verdict]:
    if not evidence.has_gpus:
        yield Skipped("no GPU on any host")
        return
    for host, facts in evidence.facts.items():
        if _lacks_cuda(facts):
            kind = f"for ROCm {facts.python.torch_hip}" if facts.python.torch_hip else "a CPU-only build"
            yield Hit(
                hosts=(host,),
                observed=f"torch is {kind}",
                expected=f"a build for CUDA {facts.nvidia.cuda or 'of the driver'} or older",
            )


def _torch_import(evidence: Evidence) -> Iterator[Verdict]:
    if evidence.quick:
        yield Skipped("not asked with --quick")
        return
    for host, facts in evidence.facts.items():
        if facts.torch is None:
            yield Blocked(host, "torch was not imported")
        elif not facts.torch.told:
            yield NotKnown(host, facts.torch.error)
        elif not facts.torch.ok and facts.python.shadows:
            yield Blocked(host, "a file in PYTHONPATH stands before a module of Python's own: sw.pythonpath")
        elif not facts.torch.ok:
            yield Hit(
                hosts=(host,),
                observed=_last_line(facts.torch.error),
                expected="`import torch` works",
                fix=_tried(facts),
            )
        elif facts.torch.error.startswith("capabilities"):  # a sick GPU; other questions may have no answer
            yield Hit(hosts=(host,), observed=_last_line(facts.torch.error), expected="every GPU answers")
        elif not facts.torch.distributed:
            yield Hit(
                hosts=(host,),
                observed="this build of torch has no torch.distributed",
                expected="a build with it",
            )


def _tried(facts: Facts) -> Remedy:
    python = path(facts.python.executable) if facts.python.executable else "python3"
    return shell(
        "{} -c 'import torch'",
        values=(python,),
        looks=True,
        advice="repair the environment there until that works",
    )


def _import_time(evidence: Evidence) -> Iterator[Verdict]:
    """Work takes longer on a busy machine, waiting for files does not, and is all that is judged. After a
    boot every host reads them from its disk: only one that waits much longer than the others is odd."""
    if evidence.quick:
        yield Skipped("not asked with --quick")
        return
    waited: dict[str, float] = {}
    for host, facts in evidence.facts.items():
        if facts.torch is None or not facts.torch.ok:
            yield Blocked(host, "torch was not imported")
        elif facts.torch.blocked is not None:
            waited[host] = facts.torch.blocked
    others = middle_of_others(waited)
    for host, seconds in waited.items():
        if seconds >= IMPORT_SLOW:
            alone = host in others and seconds >= 3 * others[host]
            yield Hit(
                hosts=(host,),
                observed=f"`import torch` waits {seconds:.0f} s for its files",
                expected=f"{others[host]:.0f} s, as on the other hosts" if alone else "",
                severity="warn" if alone else "info",
                cause="slow",
            )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "import torch failed without a word"


_ALIGN = "install the same version everywhere; a profile's `expect` holds them to it"


_LIBRARIES = {
    **dict.fromkeys(
        ("transformers", "accelerate", "datasets", "tokenizers", "peft"),
        "hosts may read a model, a tokenizer or a data set differently",
    ),
    "numpy": "arrays pickled on one host do not load on another, and seeds give other numbers",
    "flash-attn": "ranks compute attention differently, or one dies at its import",
    "triton": "kernels are compiled differently: one host fails or is slower",
    "bitsandbytes": "quantised weights of one host do not load on another",
}


RULES: tuple[Rule, ...] = (
    Rule(
        code="sw.python",
        severity="fail",
        looks_at="the training interpreter's version (major.minor)",
        judge=_python,
        needs=("python",),
        symptom="pickles and compiled extensions of one host do not load on another",
        fix="use one python on all hosts, or name the right one per host in the profile",
    ),
    Rule(
        code="sw.torch",
        severity="fail",
        looks_at="torch's version and the CUDA it was built for, from its metadata",
        judge=_torch,
        needs=("python",),
        symptom="“Mismatched NCCL version”, or ranks that speak different store protocols and hang",
        fix=_ALIGN,
    ),
    Rule(
        code="sw.torch-build",
        severity="warn",
        looks_at="torch's source revision and build tag, where version and CUDA are the same",
        judge=_torch_build,
        needs=("python",),
        symptom="an operator behaves otherwise on one host, or its NCCL is another",
        fix=_ALIGN.replace("version", "wheel", 1),
    ),
    Rule(
        code="sw.cpu-build",
        severity="fail",
        looks_at="a CPU-only torch on a host with GPUs",
        judge=_cpu_build,
        needs=("python", "gpus"),
        symptom="torch.cuda.is_available() is False on this host, and its ranks die at the first .cuda()",
        fix="pip install torch from the CUDA index that pytorch.org names for this driver",
    ),
    Rule(
        code="sw.torch-import",
        severity="fail",
        looks_at="one real `import torch` per host",
        judge=_torch_import,
        needs=("python",),
        symptom="every rank of this host dies at its first line",
        fix="repair the environment there until `import torch` works",
    ),
    Rule(
        code="sw.import-time",
        severity="warn",
        looks_at="how long `import torch` waits for its files",
        judge=_import_time,
        needs=("python",),
        symptom="every start takes as long, for each rank, and on a shared disk for all of them at once",
        fix="put the environment on a local disk",
    ),
    Rule(
        code="sw.deepspeed",
        severity="fail",
        looks_at="deepspeed's version",
        judge=_package("deepspeed", required=False, severity="fail"),
        needs=("python",),
        symptom="ZeRO partitions and checkpoints of different versions do not fit together",
        fix=_ALIGN,
    ),
    *(
        Rule(
            code=f"sw.{name}",
            severity="warn",
            looks_at=f"{name}'s version",
            judge=_package(name, required=False, severity="warn"),
            needs=("python",),
            symptom=symptom,
            fix=_ALIGN,
        )
        for name, symptom in _LIBRARIES.items()
    ),
)
