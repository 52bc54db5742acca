"""The same torch on all hosts, built for their GPUs, and one that imports soon."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from clusterctl.checks.consistency import deviations, middle_of_others, unlike
from clusterctl.checks.remedy import Remedy, path, shell
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Rule, Skipped, Verdict
from clusterctl.checks.sw.interpreter import with_python
from clusterctl.checks.sw.packages import ALIGN, same_version
from clusterctl.facts.model import Facts

IMPORT_SLOW = 6.0


def _torch(evidence: Evidence) -> Iterator[Verdict]:
    yield from same_version("torch", required=True, severity="fail", build=False)(evidence)
    builds = {
        host: f"torch built for {_platform(facts)}"
        for host, facts in with_python(evidence).items()
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
    for host, facts in with_python(evidence).items():
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


RULES: tuple[Rule, ...] = (
    Rule(
        code="sw.torch",
        severity="fail",
        looks_at="torch's version and the CUDA it was built for, from its metadata",
        judge=_torch,
        needs=("python",),
        symptom="“Mismatched NCCL version”, or ranks that speak different store protocols and hang",
        fix=ALIGN,
    ),
    Rule(
        code="sw.torch-build",
        severity="warn",
        looks_at="torch's source revision and build tag, where version and CUDA are the same",
        judge=_torch_build,
        needs=("python",),
        symptom="an operator behaves otherwise on one host, or its NCCL is another",
        fix=ALIGN.replace("version", "wheel", 1),
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
)
