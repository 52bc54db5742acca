"""Asking real SSH hosts: facts, sick hosts beside well ones, and nothing left behind."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterctl.ask.facts import CollectedFacts, FactsRequest, ask
from clusterctl.facts.model import Facts
from clusterctl.inventory.hostfile import parse
from clusterctl.sandbox import FileSpec, HostSpec, Sandbox
from clusterctl.transport import Kind, connect
from clusterctl.transport.protocol import Failure
from tests.integration.launching import nothing_left

pytestmark = pytest.mark.sandbox

MakeSandbox = Callable[..., Sandbox]
QUICK = FactsRequest(quick=True)
HANGING = FileSpec("#!/bin/sh\ntrap '' TERM INT HUP\nwhile :; do sleep 1000; done\n", 0o755)


def asked(
    box: Sandbox, request: FactsRequest = QUICK, *, kind: Kind = "fabric", **options: object
) -> CollectedFacts:
    transport = connect(kind, box.ssh_config)
    try:
        inventory = parse(box.hostfile.read_text(encoding="utf-8"), str(box.hostfile))
        return ask(transport, inventory, request, **options)  # type: ignore[arg-type]
    finally:
        transport.close()


def test_every_host_tells_who_and_where_it_is(sandbox: Sandbox) -> None:
    heard: list[tuple[str, Facts | Failure]] = []
    with nothing_left(sandbox):
        answers = asked(sandbox, on_progress=lambda host, answer: heard.append((host, answer)))
    assert not answers.failures
    assert list(answers.facts) == [host.name for host in sandbox.hosts]
    assert sorted(host for host, _ in heard) == sorted(answers.facts)
    for host in sandbox.hosts:
        facts = answers.facts[host.name]
        assert facts.errors == ()
        assert (facts.host, facts.hostname) == (host.name, host.name)
        assert facts.ssh_address == host.address()
        (link,) = [link for link in facts.interfaces if link.name == "eth0"]
        assert host.address() in [address.address for address in link.addresses]
        assert (link.up, link.running, link.kind) == (True, True, "veth")
        assert facts.home == host.environment()["HOME"]
        assert facts.python.executable == sys.executable
        assert {"torch", "deepspeed", "transformers"} <= set(facts.python.packages)
        assert facts.clock_offset is not None and facts.clock_error is not None
        assert abs(facts.clock_offset) <= facts.clock_error + 1
        assert facts.torch is None
        assert {entry.role for entry in facts.filesystems} >= {"root", "tmp", "home", "shm"}
    assert answers.reachability.asked is False
    assert answers.reachability.master_port is not None


def test_sick_hosts_are_outcomes_beside_the_well_ones(make_sandbox: Callable[..., Sandbox]) -> None:
    names = ("well", "down", "leaves", "traps", "hangs", "chatty")
    box = make_sandbox(hosts=[HostSpec(name) for name in names])
    box.host("down").stop_sshd()
    box.host("leaves").shell_profile("echo 'This account is currently not available.'; exit 3\n")
    box.host("traps").shell_profile("echo 'checking the quota' >&2; trap '' TERM HUP; sleep 1000\n")
    box.host("hangs").install("/usr/local/bin/nvidia-smi", HANGING.content, HANGING.mode)
    box.host("chatty").shell_profile("echo 'Welcome to the cluster!'; printf 'no newline'\n")
    with nothing_left(box):
        answers = asked(box, FactsRequest(quick=True, timeout=6.0))
        # What a user's own shell profile starts and shields from hangups is not ours to end.
        box.host("traps").admin(["/bin/sh", "-c", "kill -9 $(pgrep -x sleep)"])
    assert list(answers.facts) == ["well", "chatty"]
    assert "Welcome to the cluster!" in answers.facts["chatty"].noise
    assert "no newline" in answers.facts["chatty"].noise
    stages = {host: failure.stage for host, failure in answers.failures.items()}
    assert stages == {"down": "connect", "leaves": "exec", "traps": "deadline", "hangs": "deadline"}
    assert "currently not available" in answers.failures["leaves"].message
    assert "checking the quota" in answers.failures["traps"].message


def test_the_ssh_binary_carries_the_same_talk(sandbox: Sandbox) -> None:
    with nothing_left(sandbox):
        answers = asked(sandbox, FactsRequest(torch=False), kind="openssh")
    assert not answers.failures
    assert {dial.result for dial in answers.reachability.dials} == {"ok"}


def test_a_host_without_python_says_so(make_sandbox: Callable[..., Sandbox]) -> None:
    old = FileSpec("#!/bin/sh\nexit 85\n", 0o755)
    box = make_sandbox(hosts=[HostSpec("old"), HostSpec("new")])
    host = box.host("old")
    for path in ("/usr/bin/python3", "/usr/local/bin/python3", "/usr/bin/python"):
        if Path(path).exists():
            host.install(path, old.content, old.mode)
    host.shell_profile("export PATH=/usr/bin:/bin\n")
    answers = asked(box)
    assert list(answers.facts) == ["new"]
    assert answers.failures["old"].stage == "python"
    assert "apt install python3" in answers.failures["old"].hint


@pytest.mark.long
def test_a_hanging_nvidia_smi_is_killed_and_costs_only_the_gpus(make_sandbox: Callable[..., Sandbox]) -> None:
    box = make_sandbox(hosts=[HostSpec("hangs"), HostSpec("well")])
    box.host("hangs").install("/usr/local/bin/nvidia-smi", HANGING.content, HANGING.mode)
    with nothing_left(box):
        answers = asked(box)
    facts = answers.facts["hangs"]
    assert (facts.nvidia.present, facts.nvidia.exit_code) == (True, None)
    assert facts.python.packages and facts.interfaces and facts.errors == ()


def test_a_request_for_one_host_reaches_that_host(sandbox: Sandbox) -> None:
    request = FactsRequest(
        quick=True,
        python={"node2": "/opt/none/bin/python"},
        env={"node3": {"NCCL_DEBUG": "INFO"}},
        names=("node1",),
        workdir="/nowhere",
    )
    facts = asked(sandbox, request).facts
    assert facts["node2"].python.error == "/opt/none/bin/python does not exist"
    assert facts["node2"].python.requested == "/opt/none/bin/python"
    assert not facts["node1"].python.error
    set_there = {each.name: (each.value, each.origin) for each in facts["node3"].variables}
    assert set_there["NCCL_DEBUG"] == ("INFO", "environment")
    assert "NCCL_DEBUG" not in {each.name for each in facts["node1"].variables}
    assert [name.query for name in facts["node4"].names] == ["node4", "node1"]
    assert facts["node4"].workdir_exists is False


def test_a_held_master_port_is_passed_over_unless_it_is_the_users_own(sandbox: Sandbox) -> None:
    free = asked(sandbox).reachability.master_port
    assert free is not None
    code = (
        f"import socket,sys; s=socket.create_server(('', {free})); print('up', flush=True); sys.stdin.read()"
    )
    # By way of sshd, as a user's own process: one may be told whose it is.
    command = shlex.join([sys.executable, "-c", code])
    holder = subprocess.Popen(
        ["ssh", "-F", str(sandbox.ssh_config), "node1", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "up\n"
        other = asked(sandbox).reachability
        assert other.master_port not in (free, None) and not other.master_error
        own = asked(sandbox, FactsRequest(quick=True, master_port=free)).reachability
        assert own.master_port == free
        assert own.master_error.startswith(f"port {free} is held by pid ")
        assert "socket.create_server" in own.master_error
    finally:
        holder.communicate(timeout=120)


@pytest.mark.training
def test_one_real_import_tells_whether_torch_works(make_sandbox: Callable[..., Sandbox]) -> None:
    box = make_sandbox(hosts=[HostSpec("works"), HostSpec("broken")])
    package = next(Path(sys.prefix).glob("lib/python3*/site-packages/torch")) / "__init__.py"
    message = "libcudart.so.12: cannot open shared object file: No such file or directory"
    box.host("broken").install(str(package), f"raise ImportError({message!r})\n")
    with nothing_left(box):
        facts = asked(box, FactsRequest(mesh=False)).facts
    works, broken = facts["works"].torch, facts["broken"].torch
    assert works is not None and works.ok and works.distributed and not works.cuda_available
    assert broken is not None and not broken.ok
    assert broken.error == f"ImportError: {message}"


def test_files_in_a_home_directory_shadow_nothing_of_ours(make_sandbox: Callable[..., Sandbox]) -> None:
    box = make_sandbox([HostSpec("a")])
    for name in ("queue", "json", "threading", "torch"):
        (box.host("a").home / f"{name}.py").write_text("raise SystemExit('a file of the user')\n")
    answers = asked(box, FactsRequest(mesh=False, then_more=True))
    assert answers.failures == {}
    facts = answers.facts["a"]
    assert facts.python.error == ""
    assert facts.torch is not None and facts.torch.ok
