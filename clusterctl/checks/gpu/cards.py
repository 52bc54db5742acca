"""Which cards there are behind the slots, and who else is on them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from packaging.version import Version

from clusterctl.checks.consistency import deviations
from clusterctl.checks.finding import Severity
from clusterctl.checks.gpu.asked import numbers, of_cards, where_gpus
from clusterctl.checks.remedy import at_launch, shell
from clusterctl.checks.rule import Evidence, Hit, NotKnown, Rule, Verdict
from clusterctl.facts.gpu import Gpu, GpuProcess
from clusterctl.facts.versions import version

GIB = 1024**3
BUSY_MEMORY = 2 * GIB
"""From here on a foreign process costs the run its memory; below, only some speed."""
P2P_CURED = Version("550.40.07")
"""accelerate takes NCCL's peer-to-peer and InfiniBand from RTX 40 cards under older drivers."""

_DESKTOP = ("Xorg", "Xwayland", "gnome-shell", "kwin", "dcgm", "nv-hostengine", "nvidia-persistenced")
_MODES: dict[str, Severity] = {"Prohibited": "fail", "Exclusive_Process": "warn"}
_WITHOUT_P2P = ("RTX 40", "RTX 50")


def _model(evidence: Evidence) -> Iterator[Verdict]:
    models = {
        host: " + ".join(dict.fromkeys(_model_of(card) for card in evidence.cards(host)))
        for host in evidence.facts
        if evidence.cards(host)
    }
    yield from deviations(models)


def _model_of(card: Gpu) -> str:
    return f"{card.name} ({card.memory_total / GIB:.0f} GiB)" if card.memory_total else card.name


def _busy(evidence: Evidence) -> Iterator[Verdict]:
    """Of processes that live: those that cannot be ended are told by gpu.zombie."""

    def judge(host: str, cards: tuple[Gpu, ...]) -> Iterator[Verdict]:
        dead = {process.pid for process in evidence.facts[host].nvidia.stuck}
        if not any(process.pid in dead for card in cards for process in card.processes):
            yield from _jobs(host, cards)

    yield from of_cards(judge)(evidence)


def _jobs(host: str, cards: tuple[Gpu, ...]) -> Iterator[Verdict]:
    """A job on eight GPUs of many hosts is one finding: its owner and program are the cause."""
    jobs: defaultdict[tuple[str, str], list[tuple[Gpu, GpuProcess]]] = defaultdict(list)
    for card in cards:
        foreign = [
            process for process in card.processes if not any(name in process.command for name in _DESKTOP)
        ]
        for process in foreign:
            jobs[process.user, _program(process.command)].append((card, process))
        if not foreign and card.memory_used >= BUSY_MEMORY:
            yield Hit(
                hosts=(host,),
                observed=f"GPU {card.index}: {card.memory_used / GIB:.1f} GiB used by processes nobody shows",
                expected="free memory",
                cause="hidden",
            )
    for (user, program), held in jobs.items():
        on = tuple({card.index: card for card, _ in held}.values())
        sizes = [process.memory for _, process in held]
        known = sum(size for size in sizes if size is not None)
        size = "size unknown" if None in sizes else f"{known / GIB:.1f} GiB"
        pids = list(dict.fromkeys(str(process.pid) for _, process in held))
        heavy = any(each is None or each >= BUSY_MEMORY for each in sizes)
        yield Hit(
            hosts=(host,),
            observed=f"{numbers(on)}: pid {', '.join(pids[:8])} of {user}, {size}: {held[0][1].command[:50]}",
            expected="no foreign process",
            severity="fail" if heavy else "warn",
            cause=f"{user} {program}",
        )


def _program(command: str) -> str:
    """What tells one job from another: not its ranks' numbers, ports and pids."""
    return " ".join(word for word in command.split()[:3] if not any(sign.isdigit() for sign in word))


def _compute_mode(host: str, cards: tuple[Gpu, ...]) -> Iterator[Verdict]:
    for mode, severity in _MODES.items():
        on = tuple(card for card in cards if card.compute_mode.strip() == mode)
        if on:
            yield Hit(
                hosts=(host,),
                observed=f"compute mode {mode} on {numbers(on)}",
                expected="Default",
                severity=severity,
                cause=mode,
            )


def _mig(host: str, cards: tuple[Gpu, ...]) -> Iterator[Verdict]:
    parted = tuple(card for card in cards if card.mig_mode.strip() == "Enabled")
    if parted:
        yield Hit(
            hosts=(host,), observed=f"MIG is on for {numbers(parted)}", expected="whole GPUs", cause="mig"
        )


def _p2p(evidence: Evidence) -> Iterator[Verdict]:
    names = {host: tuple(card.name for card in evidence.cards(host)) for host in evidence.facts}
    alike = Counter(names.values())
    having = Counter(names[host] for host, facts in evidence.facts.items() if facts.nvidia.p2p)
    for host, facts in evidence.facts.items():
        cards = tuple(
            card for card in evidence.cards(host) if any(name in card.name for name in _WITHOUT_P2P)
        )
        off = evidence.setting(host, "NCCL_P2P_DISABLE") or next(
            (each for each in facts.variables if each.name == "NCCL_P2P_DISABLE"), None
        )
        driver = version(facts.nvidia.kernel_driver or (cards[0].driver if cards else ""))
        if off is not None and off.value == "1":
            continue
        if len(cards) < 2:
            own = names[host]
            if facts.nvidia.p2p is False and having[own] * 2 > alike[own]:
                yield _without_p2p(host, having[own])
        elif driver is None:
            yield NotKnown(host, "the version of the NVIDIA driver")
        elif driver < P2P_CURED or facts.nvidia.p2p:
            yield Hit(
                hosts=(host,),
                observed=f"{len(cards)} {cards[0].name} under driver {driver}, which offers peer-to-peer",
                expected="a driver that knows that these cards have none, or NCCL_P2P_DISABLE=1",
            )


def _without_p2p(host: str, having: int) -> Hit:
    return Hit(
        hosts=(host,),
        observed="no two cards may read one another's memory",
        expected=f"peer-to-peer, as on {having} hosts with the same cards",
        symptom="NCCL copies through the host's memory: a fraction of the bandwidth between the cards",
        fix=shell("nvidia-smi topo -p2p r", looks=True, advice="look at the BIOS: IOMMU and ACS"),
        cause="less",
    )


RULES: tuple[Rule, ...] = (
    Rule(
        code="gpu.model",
        severity="warn",
        looks_at="GPU model and memory on all hosts",
        judge=where_gpus(_model),
        needs=("gpus",),
        symptom="the smallest memory ends in out-of-memory first, and the slowest GPU sets the pace for all",
        fix="choose the batch for the smallest, or --exclude the odd host",
    ),
    Rule(
        code="gpu.busy",
        severity="fail",
        looks_at="foreign processes and used memory on the GPUs of the selected slots",
        judge=where_gpus(_busy),
        needs=("gpus",),
        symptom="out of memory, or one slow rank that holds up the rest",
        fix="ask their owner to stop them, or --exclude the host",
    ),
    Rule(
        code="gpu.compute-mode",
        severity="fail",
        looks_at="the compute mode",
        judge=of_cards(_compute_mode),
        needs=("gpus",),
        symptom="“all CUDA-capable devices are busy or unavailable” when a second process looks at it",
        fix=shell("sudo nvidia-smi -c 0"),
    ),
    Rule(
        code="gpu.mig",
        severity="warn",
        looks_at="MIG mode, where slots count whole GPUs",
        judge=of_cards(_mig),
        needs=("gpus",),
        symptom="ranks and devices are counted differently, and NCCL takes a slice for a GPU",
        fix=shell("sudo nvidia-smi -mig 0"),
    ),
    Rule(
        code="gpu.p2p",
        severity="warn",
        looks_at="peer-to-peer that RTX 40 and 50 cards do not have but are offered, or that one host lacks",
        judge=where_gpus(_p2p),
        needs=("gpus", "settings"),
        symptom="a hang with the GPUs at 100 %, or copies between cards that are silently wrong",
        fix=at_launch("NCCL_P2P_DISABLE=1"),
    ),
)
