"""What a host is: its own name, processes, home and network, behind a real OpenSSH server."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from clusterctl.sandbox import HostSpec, Nic, Sandbox, running_default
from tests.conftest import MakeSandbox

pytestmark = pytest.mark.sandbox


def ssh(box: Sandbox, host: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    argv = ["ssh", "-F", str(box.ssh_config), "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", host, *command]
    return subprocess.run(argv, capture_output=True, text=True, check=check, timeout=120)


def test_each_host_answers_over_ssh_with_its_own_name_and_nothing_else(sandbox: Sandbox) -> None:
    for host in sandbox.hosts:
        done = ssh(sandbox, host.name, "hostname")
        assert (done.stdout, done.stderr) == (f"{host.name}\n", "")


def test_host_keys_differ_and_a_changed_one_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    lines = sandbox.known_hosts.read_text().splitlines()
    keys = {line.split()[2] for line in lines}
    assert len(keys) == len(sandbox.hosts)
    swapped = tmp_path / "known_hosts"
    swapped.write_text(lines[0].replace(lines[0].split()[2], lines[1].split()[2]) + "\n")
    config = tmp_path / "config"
    config.write_text(sandbox.ssh_config.read_text().replace(str(sandbox.known_hosts), str(swapped)))
    argv = ["ssh", "-F", str(config), "-o", "BatchMode=yes", "node1", "true"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr


def test_the_session_finds_the_interpreter_that_runs_here(sandbox: Sandbox) -> None:
    code = "import sys; print(sys.prefix)"
    done = ssh(sandbox, "node2", f"python3 -c {shlex.quote(code)}")
    assert done.stdout.strip() == sys.prefix


def test_scp_and_sftp_put_a_file_into_the_home_of_one_host_only(sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "data.bin"
    file.write_bytes(bytes(range(256)) * 4096)
    subprocess.run(["scp", "-q", "-F", str(sandbox.ssh_config), str(file), "node1:"], check=True, timeout=120)
    assert (sandbox.host("node1").home / "data.bin").read_bytes() == file.read_bytes()
    assert "data.bin" not in ssh(sandbox, "node2", "ls").stdout.split()
    ssh(sandbox, "node1", "rm data.bin")


def test_a_terminal_is_given(sandbox: Sandbox) -> None:
    assert ssh(sandbox, "node1", "-tt", "tty").stdout.startswith("/dev/pts/")


def test_all_names_resolve_on_every_host_and_the_own_one_to_the_lan(sandbox: Sandbox) -> None:
    for host in sandbox.hosts:
        answers = host.run(["getent", "hosts", *(other.name for other in sandbox.hosts)]).stdout.splitlines()
        assert [tuple(line.split()) for line in answers] == [(h.address(), h.name) for h in sandbox.hosts]


def test_hosts_reach_each_other_over_their_cards(sandbox: Sandbox) -> None:
    code = (
        "import socket, sys; "
        "s = socket.create_connection((sys.argv[1], 22), 5); print(s.getsockname()[0], s.recv(7).decode())"
    )
    first, last = sandbox.host("node1"), sandbox.host("node4")
    done = first.run(["python3", "-c", code, last.name])
    assert done.stdout.split() == [first.address(), "SSH-2.0"], done.stderr


def test_processes_temporary_files_and_shared_memory_are_a_host_s_own(sandbox: Sandbox) -> None:
    one, two = sandbox.host("node1"), sandbox.host("node2")
    files = [f"{folder}/own-{uuid4().hex}" for folder in ("/tmp", "/dev/shm", "/run")]
    before = two.pids()
    sleeper = one.popen(["sleep", "1000"])
    try:
        one.run(["touch", *files])
        assert two.run(["ls", *files]).returncode != 0
        assert not any(Path(file).exists() for file in files)
        assert "sleep 1000" in one.run(["ps", "-e", "-o", "args"]).stdout
        assert "sleep 1000" not in two.run(["ps", "-e", "-o", "args"]).stdout
        assert two.pids() == before
    finally:
        sleeper.kill()
        sleeper.wait()
        one.run(["rm", *files])


def test_a_killed_caller_takes_its_command_with_it(sandbox: Sandbox) -> None:
    host = sandbox.host("node3")
    with pytest.raises(subprocess.TimeoutExpired):
        host.run(["sleep", "1234"], timeout=0.5)
    assert "sleep 1234" not in host.run(["ps", "-e", "-o", "args"]).stdout


def test_the_kernel_s_listing_of_network_cards_is_the_host_s(sandbox: Sandbox) -> None:
    listed = sandbox.host("node1").run(["ls", "/sys/class/net"]).stdout.split()
    assert listed == ["eth0", "lo"]


def test_machine_and_boot_differ_as_on_separate_machines(sandbox: Sandbox) -> None:
    for file in ("/proc/sys/kernel/random/boot_id", "/etc/machine-id"):
        if Path(file).exists():
            ids = {host.run(["cat", file]).stdout for host in sandbox.hosts}
            assert len(ids) == len(sandbox.hosts)


def test_status_and_input_pass_through(sandbox: Sandbox) -> None:
    host = sandbox.host("node1")
    assert host.run(["sh", "-c", "exit 7"]).returncode == 7
    assert host.run(["sh", "-c", "kill -9 $$"]).returncode == 137
    assert host.run(["cat"], input="é\n$HOME\n").stdout == "é\n$HOME\n"
    assert host.run(["sh", "-c", "echo $A"], env={"A": "a b"}).stdout == "a b\n"
    assert host.run(["no-such-program"]).returncode == 127


def test_paramiko_gets_in_with_what_ssh_g_resolves(sandbox: Sandbox) -> None:
    import paramiko

    listed = subprocess.run(
        ["ssh", "-F", str(sandbox.ssh_config), "-G", "node3"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    options = dict(line.split(" ", 1) for line in listed if " " in line)
    client = paramiko.SSHClient()
    client.load_host_keys(options["userknownhostsfile"])
    proxy = options.get("proxycommand", "none")
    client.connect(
        options["hostname"],
        port=int(options["port"]),
        username=options["user"],
        key_filename=options["identityfile"],
        allow_agent=False,
        look_for_keys=False,
        sock=None if proxy == "none" else paramiko.ProxyCommand(proxy),
        timeout=120,
    )
    try:
        _, out, _ = client.exec_command("hostname")
        assert out.read() == b"node3\n"
    finally:
        client.close()


def test_cards_of_any_name_on_several_networks(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(
        hosts=[
            HostSpec(
                "a", nics=(Nic("eno1"), Nic("ib0", network="fabric", mtu=4000), Nic("eth9", "spare", ""))
            ),
            HostSpec("b", nics=(Nic("enp5s0", address="192.168.44.9/24"), Nic("ib1", network="fabric"))),
        ]
    )
    a, b = box.hosts
    assert a.run(["ls", "/sys/class/net"]).stdout.split() == ["eno1", "eth9", "ib0", "lo"]
    assert a.run(["cat", "/sys/class/net/ib0/mtu"]).stdout == "4000\n"
    assert b.address() == "192.168.44.9"
    assert a.address("eth9") == ""
    code = "import socket, sys; socket.create_connection((sys.argv[1], 22), 5)"
    for card in ("enp5s0", "ib1"):
        assert a.run(["python3", "-c", code, b.address(card)]).returncode == 0


def test_another_login_name_and_port(make_sandbox: MakeSandbox) -> None:
    box = make_sandbox(hosts=[HostSpec("plain"), HostSpec("other", user="trainer", port=2222)])
    assert ssh(box, "other", "id -un; echo $HOME").stdout.split() == ["trainer", str(box.directory / "home")]
    assert "[other]:2222" in box.known_hosts.read_text()
    assert not box.host("plain").run(["id", "trainer"]).stdout


def test_the_default_is_the_one_named_so_else_the_only_one(empty_home: Path) -> None:
    assert running_default(empty_home) is None
    with Sandbox.create("lab", [HostSpec("a")], empty_home) as lab:
        only = running_default(empty_home)
        assert only is not None and only.hostfile == lab.hostfile
        with Sandbox.create("lab2", [HostSpec("a")], empty_home):
            assert running_default(empty_home) is None
            with Sandbox.create("default", [HostSpec("a")], empty_home) as default:
                chosen = running_default(empty_home)
                assert chosen is not None and chosen.hostfile == default.hostfile
    assert running_default(empty_home) is None
