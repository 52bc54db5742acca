"""The same python and packages on all hosts, and those that the profile expects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from clusterctl.checks.consistency import deviations, unlike
from clusterctl.checks.finding import Severity
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Rule, Skipped, Verdict
from clusterctl.facts.model import Facts
from clusterctl.facts.versions import is_range, version


def _with_python(evidence: Evidence) -> dict[str, Facts]:
    return {host: facts for host, facts in evidence.facts.items() if not facts.python.error}


def _without_python(evidence: Evidence) -> Iterator[Verdict]:
    for host, facts in evidence.facts.items():
        if facts.python.error:
            yield Blocked(host, "no python to ask")


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


def _package(name: str, *, required: bool, severity: Severity) -> Callable[[Evidence], Iterator[Verdict]]:
    """One version everywhere or nowhere; ``required`` packages may not be missing everywhere either."""

    def judge(evidence: Evidence) -> Iterator[Verdict]:
        yield from _without_python(evidence)
        asked = _with_python(evidence)
        versions = {host: facts.python.packages.get(name, "") for host, facts in asked.items()}
        wanted = evidence.expect.get(name, "")
        if not any(versions.values()) and not required and not wanted:
            yield Skipped(f"{name} is on no host")
            return
        lacking = tuple(host for host, told in versions.items() if not told)
        if lacking:
            python = next((asked[host].python.executable for host in lacking), "") or "python3"
            right = wanted or _newest(versions.values())
            yield Hit(
                hosts=lacking,
                observed=f"{name} is not installed",
                expected=f"{name} {right}".rstrip(),
                severity=severity,
                fix=f"{python} -m pip install {_requirement(name, right)}",
            )
        present = {host: told for host, told in versions.items() if told}
        yield from (
            unlike(present, wanted, of=name, severity=severity)
            if wanted
            else deviations(present, of=name, severity=severity)
        )

    return judge


def _newest(versions: Iterable[str]) -> str:
    """Without its build tag: what pip would be asked for."""
    known = [found for found in map(version, versions) if found]
    return max(known).public if known else ""


def _requirement(name: str, wanted: str) -> str:
    if is_range(wanted):
        return f"'{name}{wanted}'"
    return f"{name}=={wanted}" if wanted else name


def _torch(evidence: Evidence) -> Iterator[Verdict]:
    yield from _package("torch", required=True, severity="fail")(evidence)
    builds = {
        host: f"torch built for {'CUDA ' + facts.python.torch_cuda if facts.python.torch_cuda else 'CPU'}"
        for host, facts in _with_python(evidence).items()
        if facts.python.torch_cuda is not None and "torch" in facts.python.packages
    }
    wanted = evidence.expect.get("cuda")
    if wanted:
        cuda = {host: evidence.facts[host].python.torch_cuda or "none (a CPU build)" for host in builds}
        yield from unlike(cuda, wanted, of="CUDA")
    else:
        yield from deviations(builds)


def _cpu_build(evidence: Evidence) -> Iterator[Verdict]:
    if not evidence.has_gpus:
        yield Skipped("no GPU on any host")
        return
    for host, facts in evidence.facts.items():
        if facts.nvidia.gpus and facts.python.torch_cuda == "":
            yield Hit(
                hosts=(host,),
                observed="torch is a CPU-only build",
                expected=f"a build for CUDA {facts.nvidia.cuda or 'of the driver'} or older",
            )


def _torch_import(evidence: Evidence) -> Iterator[Verdict]:
    if evidence.quick:
        yield Skipped("not asked with --quick")
        return
    for host, facts in evidence.facts.items():
        if facts.torch is None:
            yield Blocked(host, "torch was not imported")
        elif not facts.torch.ok:
            yield Hit(hosts=(host,), observed=_last_line(facts.torch.error), expected="`import torch` works")
        elif facts.torch.error.startswith("capabilities"):  # a sick GPU; other questions may have no answer
            yield Hit(hosts=(host,), observed=_last_line(facts.torch.error), expected="every GPU answers")
        elif not facts.torch.distributed:
            yield Hit(
                hosts=(host,),
                observed="this build of torch has no torch.distributed",
                expected="a build with it",
            )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "import torch failed without a word"


_ALIGN = "install the same version everywhere; a profile's `expect` holds them to it"


_LIBRARIES = ("transformers", "accelerate", "datasets", "tokenizers")


RULES: tuple[Rule, ...] = (
    Rule(
        code="sw.python",
        severity="fail",
        looks_at="the training interpreter's version (major.minor)",
        judge=_python,
        symptom="pickles and compiled extensions of one host do not load on another",
        fix="use one python on all hosts, or name the right one per host in the profile",
    ),
    Rule(
        code="sw.torch",
        severity="fail",
        looks_at="torch's version and the CUDA it was built for, from its metadata",
        judge=_torch,
        symptom="“Mismatched NCCL version”, or ranks that speak different store protocols and hang",
        fix=_ALIGN,
    ),
    Rule(
        code="sw.cpu-build",
        severity="fail",
        looks_at="a CPU-only torch on a host with GPUs",
        judge=_cpu_build,
        symptom="torch.cuda.is_available() is False on this host, and its ranks die at the first .cuda()",
        fix="pip install torch from the CUDA index that pytorch.org names for this driver",
    ),
    Rule(
        code="sw.torch-import",
        severity="fail",
        looks_at="one real `import torch` per host",
        judge=_torch_import,
        symptom="every rank of this host dies at its first line",
        fix="repair the environment there: python -c 'import torch'",
    ),
    Rule(
        code="sw.deepspeed",
        severity="fail",
        looks_at="deepspeed's version",
        judge=_package("deepspeed", required=False, severity="fail"),
        symptom="ZeRO partitions and checkpoints of different versions do not fit together",
        fix=_ALIGN,
    ),
    *(
        Rule(
            code=f"sw.{name}",
            severity="warn",
            looks_at=f"{name}'s version",
            judge=_package(name, required=False, severity="warn"),
            symptom="hosts may read a model, a tokenizer or a data set differently",
            fix=_ALIGN,
        )
        for name in _LIBRARIES
    ),
)
