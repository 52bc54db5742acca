"""What lies under the packages: driver, kernel, compilers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from packaging.version import Version

from clusterctl.checks.consistency import deviations, unlike
from clusterctl.checks.remedy import install
from clusterctl.checks.rule import Blocked, Evidence, Hit, NotKnown, Rule, Skipped, Verdict
from clusterctl.checks.sw.environment import value_of
from clusterctl.facts.versions import version

OLDEST_KERNEL = Version("5.5")
"""accelerate warns below it: processes may hang. Enterprise kernels (.el8) have the fix at lower numbers."""


def _driver(evidence: Evidence) -> Iterator[Verdict]:
    drivers = {
        host: facts.nvidia.kernel_driver or facts.nvidia.gpus[0].driver
        for host, facts in evidence.facts.items()
        if facts.nvidia.kernel_driver or facts.nvidia.gpus
    }
    if not drivers:
        yield Skipped("no NVIDIA driver on any host")
    elif wanted := evidence.expect.get("driver"):
        yield from unlike(drivers, wanted, of="driver")
    else:
        yield from deviations(drivers, of="driver")


def _cuda_compat(evidence: Evidence) -> Iterator[Verdict]:
    if not evidence.has_gpus:
        yield Skipped("no GPU on any host")
        return
    for host, facts in evidence.facts.items():
        if facts.torch and facts.torch.cuda_available and facts.torch.device_count:
            continue  # forward compatibility, or whatever makes it work
        if facts.torch is None and "compat" in value_of(evidence, host, "LD_LIBRARY_PATH"):
            yield Blocked(host, "forward compatibility is set up: an import of torch will tell")
            continue
        can, needs = version(facts.nvidia.cuda), version(facts.python.torch_cuda or "")
        if facts.nvidia.gpus and needs and not can:
            yield NotKnown(host, "nvidia-smi did not tell its CUDA version")
        elif can and needs and can.major < needs.major:
            yield Hit(
                hosts=(host,),
                observed=f"the driver serves CUDA up to {facts.nvidia.cuda}",
                expected=f"CUDA {facts.python.torch_cuda}, for which torch was built",
            )


def _kernel(evidence: Evidence) -> Iterator[Verdict]:
    kernels = {host: facts.kernel for host, facts in evidence.facts.items() if facts.kernel}
    for host, kernel in kernels.items():
        running = version(kernel)
        if running and running < OLDEST_KERNEL and ".el" not in kernel:
            yield Hit(hosts=(host,), observed=f"kernel {kernel}", expected="5.5 or newer")
    if wanted := evidence.expect.get("kernel"):
        yield from unlike(kernels, wanted, of="kernel")
    elif len(set(kernels.values())) > 1:
        several = ", ".join(
            f"{kernel} ({count})" for kernel, count in Counter(kernels.values()).most_common(4)
        )
        yield Hit(hosts=tuple(kernels), observed=f"kernels differ: {several}", severity="info")


def _toolchain(evidence: Evidence) -> Iterator[Verdict]:
    tools = {host: frozenset(_tool(line) for line in f.compilers) for host, f in evidence.facts.items()}
    common = frozenset().union(*tools.values()) if tools else frozenset()
    if not common:
        yield Skipped("no compiler on any host: DeepSpeed operators that compile at first use will not work")
        return
    for tool in sorted(common):
        lacking = tuple(host for host, have in tools.items() if tool not in have)
        if lacking:
            yield Hit(
                hosts=lacking,
                observed=f"{tool} is missing",
                expected=f"{tool}, as on {len(tools) - len(lacking)} of {len(tools)} hosts",
                fix=install(
                    evidence.facts[lacking[0]].os_release, apt="g++ ninja-build", dnf="gcc-c++ ninja-build"
                ),
            )


def _tool(line: str) -> str:
    """``/usr/bin/g++ 12.2.0`` and ``g++`` alike are ``g++``."""
    return line.split()[0].rpartition("/")[2] if line.split() else line


RULES: tuple[Rule, ...] = (
    Rule(
        code="sw.driver",
        severity="warn",
        looks_at="the NVIDIA driver's version",
        judge=_driver,
        needs=("gpus",),
        symptom="the host with the older driver fails first when CUDA moves on",
        fix="install one driver version on all hosts and hold its package",
    ),
    Rule(
        code="sw.cuda-compat",
        severity="fail",
        looks_at="the CUDA version the driver serves against the one torch was built for",
        judge=_cuda_compat,
        needs=("gpus", "python", "settings"),
        symptom="“The NVIDIA driver on your system is too old”, and no GPU in torch",
        fix="upgrade the driver, or install a torch built for the older CUDA",
    ),
    Rule(
        code="sw.kernel",
        severity="warn",
        looks_at="the kernel's release",
        judge=_kernel,
        needs=("system",),
        symptom="accelerate warns that processes may hang on such a kernel",
        fix="upgrade the kernel",
    ),
    Rule(
        code="sw.toolchain",
        severity="info",
        looks_at="compilers that some hosts have and others lack",
        judge=_toolchain,
        needs=("python",),
        symptom="an operator that DeepSpeed compiles at first use fails on one host while the others wait",
        fix="install g++ and ninja",
    ),
)
