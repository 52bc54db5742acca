"""Fixtures for tests that need hosts. No test writes to the user's own ~/.clusterctl."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from clusterctl.ask.facts import Choose, CollectedFacts, FactsRequest
from clusterctl.facts.model import Facts
from clusterctl.plan.model import RunVariables
from clusterctl.sandbox import HostSpec, Sandbox
from clusterctl.sandbox.lifecycle import take_down
from clusterctl.sandbox.spec import numbered
from clusterctl.sandbox.sshd import find_sshd
from clusterctl.sandbox.state import names
from clusterctl.session import examine
from tests.builders import cluster, mesh
from tests.faults.clusters import with_own_kernel_log

# No test asserts by a clock: on a busy machine an example takes as long as it takes.
settings.register_profile("calm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("calm")

# A shell starts background jobs with Ctrl-C ignored, nohup with SIGHUP: children inherit that, and tests send
# both to them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

MakeSandbox = Callable[..., Sandbox]
_OWN_CACHE = Path.home() / ".clusterctl/sandbox/.cache/openssh"


@pytest.fixture(scope="session", autouse=True)
def clusterctl_home() -> Iterator[Path]:
    """A ``CLUSTERCTL_HOME`` of this test session, with a short path: sockets lie in it."""
    home = Path(tempfile.mkdtemp(prefix="cctl-"))
    before = os.environ.get("CLUSTERCTL_HOME")
    os.environ["CLUSTERCTL_HOME"] = str(home)
    yield home
    if before is None:
        del os.environ["CLUSTERCTL_HOME"]
    else:
        os.environ["CLUSTERCTL_HOME"] = before
    shutil.rmtree(home)


class AnsweringHosts:
    """node1 and node2 of ``./hostfile``, which answer with ``facts`` without a network; ``requests`` are what
    they were asked, ``variables`` what a run would have there."""

    def __init__(self) -> None:
        self.facts: dict[str, Facts] = cluster(2)
        self.requests: list[FactsRequest] = []
        self.variables: dict[str, RunVariables] = {}

    def ask(
        self,
        link: object,
        inventory: object,
        request: FactsRequest,
        *,
        choose: Choose | None = None,
        **_: object,
    ) -> CollectedFacts:
        self.requests.append(request)
        if choose is not None:
            self.variables = dict(choose(self.facts, mesh(self.facts)))
        return CollectedFacts(facts=self.facts, failures={}, reachability=mesh(self.facts), seconds=0.1)


@pytest.fixture
def answering_hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AnsweringHosts:
    """Hosts without a network, an own home, and a working directory with ``hostfile`` and ``train.py``."""
    hosts = AnsweringHosts()
    monkeypatch.setattr(examine, "ask", hosts.ask)
    home, project = tmp_path / "home", tmp_path / "project"
    home.mkdir()
    project.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CLUSTERCTL_HOME", str(home / ".clusterctl"))
    for name in ("NCCL_SOCKET_IFNAME", "DS_ENV_FILE", "CLUSTERCTL_HOSTFILE", "CLUSTERCTL_SSH_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(project)
    Path("hostfile").write_text("node1 slots=1\nnode2 slots=1\n")
    Path("train.py").write_text("")
    return hosts


@pytest.fixture(scope="session")
def openssh_cache(clusterctl_home: Path) -> Path:
    """Where a private copy of sshd lies, if one is needed: fetched once, not by every test."""
    cache = clusterctl_home / "sandbox/.cache"
    cache.mkdir(mode=0o700, parents=True)
    if (_OWN_CACHE / "usr/sbin/sshd").exists():  # no link: hosts do not see where it would lead
        shutil.copytree(_OWN_CACHE, cache / "openssh", symlinks=True)
    find_sshd(cache)
    return cache


@pytest.fixture
def empty_home(namespaces: None, openssh_cache: Path) -> Iterator[Path]:
    """A ``CLUSTERCTL_HOME`` without any sandbox, for one test."""
    home = Path(tempfile.mkdtemp(prefix="cctl-"))
    cache = home / "sandbox/.cache"
    cache.mkdir(mode=0o700, parents=True)
    copy = (openssh_cache / "openssh").resolve()
    if copy.exists():
        shutil.copytree(copy, cache / "openssh", symlinks=True, copy_function=os.link)
    yield home
    for name in names(home):
        take_down(name, home)
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def namespaces(openssh_cache: Path) -> None:
    """Skips where virtual hosts are impossible."""
    argv = (
        ["unshare", "--net", "true"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net", "true"]
    )
    probe = subprocess.run(argv, capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"the kernel refuses namespaces: {probe.stderr.strip()}")


@pytest.fixture(scope="session")
def hosts_by_hand(openssh_cache: Path) -> None:
    """Skips where the hosts of the campaign of faults are impossible."""
    if os.geteuid() != 0:
        pytest.skip("hosts made by hand need root")
    argv = ["unshare", "--fork", "--kill-child", "--net", "--pid", "--mount", "true"]
    probe = subprocess.run(argv, capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"the kernel refuses namespaces: {probe.stderr.strip()}")


@pytest.fixture(scope="session")
def sandbox(namespaces: None) -> Iterator[Sandbox]:
    """Four hosts, node1 to node4 with 2 slots, for tests that leave them as they found them."""
    with Sandbox.create("shared", with_own_kernel_log(numbered(4, (2,)))) as box:
        yield box


@pytest.fixture
def make_sandbox(namespaces: None) -> Iterator[MakeSandbox]:
    """``make_sandbox(hosts=[HostSpec(...), ...])``: hosts of one test's own, gone after it."""
    made: list[Sandbox] = []

    def make(hosts: Sequence[HostSpec]) -> Sandbox:
        made.append(Sandbox.create(f"own{next(_NUMBERS)}", with_own_kernel_log(hosts)))
        return made[-1]

    yield make
    for box in made:
        box.down()


_NUMBERS = count(1)
