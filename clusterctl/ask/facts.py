"""Asks every host about itself, over one channel each, and lets the hosts try one another."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

import msgspec

from clusterctl.ask import mesh, proving
from clusterctl.ask.bundle import REMOTE_COMMAND, pack
from clusterctl.ask.collector import FactCollector, OnAwaiting, Progress
from clusterctl.ask.nccl import ask_nccl
from clusterctl.facts.e2e import Proof
from clusterctl.facts.model import Facts, Reachability
from clusterctl.inventory.model import Inventory
from clusterctl.plan.group import Trials
from clusterctl.plan.model import RunVariables
from clusterctl.settings import ASK, RUN, SSH
from clusterctl.transport.protocol import Failure, Transport

PROBE = (
    "shared.files", "shared.locks", "shared.netlink",
    "probe.activation", "probe.system", "probe.machine", "probe.mounts", "probe.kernel_log",
    "probe.net", "probe.pci", "probe.rdma", "probe.gpu", "probe.gpu_links", "probe.gpu_nodes", "probe.smi",
    "probe.python", "probe.torch_import",
    "shared.environment", "traffic.nccl", "traffic.nccl_child",
    "traffic.listeners", "traffic.dialer", "traffic.attempt", "traffic.kernel", "traffic.master_port",
    "e2e.ranks", "e2e.child", "e2e.imported", "e2e.program", "e2e.allreduce", "e2e.sockets",
    "e2e.bandwidth", "e2e.devices", "e2e.gemm",
)  # fmt: skip
"""The node's modules that tell facts and dial."""

_RELEASE_TIMEOUT = 1.0
Choose = Callable[[Mapping[str, Facts], Reachability], Mapping[str, RunVariables]]
"""From what was heard so far to the variables of the run, for the hosts that the chosen network covers."""


class FactsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask. ``python``, ``env``, ``defaults`` (variables that give way to the activation line, which
    ``env`` does not), ``activate`` (a line for bash) and ``workdirs`` are per host; a host without ``python``
    takes the usual one, one without an entry in ``workdirs`` is asked for ``workdir``.

    ``torch`` and ``mesh`` are left out with ``quick``; ``all_pairs`` dials between all hosts, however many.
    ``master_port`` is the user's own choice; without it the first free one from ``preferred_port`` on,
    outside the host's own port range. With ``then_more`` the hosts wait, in the sessions they have, for the
    next bundle. Seconds throughout.
    """

    quick: bool = False
    torch: bool = True
    mesh: bool = True
    all_pairs: bool = False
    then_more: bool = False
    python: dict[str, str] = {}
    env: dict[str, dict[str, str]] = {}
    defaults: dict[str, dict[str, str]] = {}
    activate: dict[str, str] = {}
    names: tuple[str, ...] = ()
    """Names that every host resolves, besides its own."""
    workdir: str = ""
    workdirs: dict[str, str] = {}
    master_port: int | None = None
    preferred_port: int = RUN.preferred_master_port
    timeout: float = SSH.probe_timeout
    torch_timeout: float = SSH.torch_timeout


class CollectedFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Every host of the inventory is in ``facts`` or in ``failures``, in inventory order."""

    facts: dict[str, Facts]
    failures: dict[str, Failure]
    reachability: Reachability
    proof: Proof = Proof()
    seconds: float


Arrange = Callable[[Mapping[str, Facts], Reachability], Trials]
"""What is to prove these hosts end to end: the launch's own ranks, as far as hosts can take part."""


def ask(
    transport: Transport,
    inventory: Inventory,
    request: FactsRequest,
    *,
    on_progress: Progress | None = None,
    on_awaiting: OnAwaiting | None = None,
    choose: Choose | None = None,
    arrange: Arrange | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> CollectedFacts:
    """Ask all hosts at once. A sick host is an outcome in ``failures``; nothing is raised for it.

    ``on_progress(host, facts or failure)`` is called once for each host, as they answer, in this thread;
    ``on_awaiting(kind, hosts)`` whenever it is other hosts, or something else, that is waited for.
    With ``choose``, and traffic, libnccl is asked what it takes under the variables that it names.
    With ``arrange`` hosts are proven as it says once all else is known.
    ``meanwhile`` is called once, when all are being asked and before any answer is waited for.
    Nothing stays on any host, whatever ends the session.
    """
    began = time.monotonic()
    torch = request.torch and not request.quick
    everywhere = request.mesh and not request.quick
    activating = ASK.activation_timeout if any(request.activate.values()) else 0.0
    deadline = began + request.timeout
    opening = _Openings(request)
    collector = FactCollector(
        transport,
        inventory.names,
        opening.of,
        command=REMOTE_COMMAND,
        deadline=deadline,
        torch_timeout=request.torch_timeout if torch else None,
        on_progress=on_progress or (lambda host, answer: None),
        on_awaiting=on_awaiting or (lambda kind, hosts: None),
    )
    try:
        meanwhile()
        collector.gather(min(ASK.facts_timeout, request.timeout) + activating, deadline)
        collector.confirm_paths()
        reached = mesh.reach(
            collector,
            everywhere=everywhere,
            all_pairs=request.all_pairs,
            master_port=request.master_port,
            preferred=request.preferred_port,
        )
        collector.settle()
        facts = collector.facts()
        reachability = reached.reachability
        if choose is not None and everywhere:
            variables = choose(facts, reached.reachability)
            reached.measure_again({host: of_host.address for host, of_host in variables.items()})
            picks, dials = ask_nccl(
                collector,
                facts,
                variables,
                reachability=reached.reachability,
                all_pairs=request.all_pairs,
            )
            facts |= {host: msgspec.structs.replace(facts[host], nccl=pick) for host, pick in picks.items()}
            reachability = reached.with_dials(dials)
        proof = Proof()
        if arrange is not None and facts:
            proof = proving.prove(collector, arrange(facts, reachability))
        if request.then_more:
            collector.release(time.monotonic() + _RELEASE_TIMEOUT)
    finally:
        collector.close()
    failures = {host: collector.failures[host] for host in inventory.names if host in collector.failures}
    # A host that failed later on, by what it sent, has no say in what was heard before.
    dials = tuple(dial for dial in reachability.dials if not {dial.source, dial.target} & failures.keys())
    return CollectedFacts(
        facts={host: facts[host] for host in inventory.names if host in facts and host not in failures},
        failures=failures,
        reachability=msgspec.structs.replace(reachability, dials=dials),
        proof=proof,
        seconds=time.monotonic() - began,
    )


class _Openings:
    """The first bytes for each host; hosts that are asked the same share one bundle."""

    def __init__(self, request: FactsRequest) -> None:
        self._request = request
        self._packed: dict[bytes, bytes] = {}

    def of(self, host: str) -> bytes:
        asked = {
            "timeout": ASK.silence_timeout,
            "python": self._request.python.get(host, ""),
            "controller_python": sys.executable,
            "env": self._request.env.get(host, {}),
            "defaults": self._request.defaults.get(host, {}),
            "activate": self._request.activate.get(host, ""),
            "activation_timeout": ASK.activation_timeout,
            "names": self._request.names,
            "workdir": self._request.workdirs.get(host, self._request.workdir),
        }
        key = msgspec.json.encode(asked)
        if key not in self._packed:
            self._packed[key] = pack("probe.main", asked, PROBE)
        return self._packed[key]
