"""Ways to start one job on all hosts of a sandbox, for `bench/launch.py`: by hand, DeepSpeed, clusterctl."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from clusterctl.sandbox import Sandbox, VirtualHost

_HERE = Path(__file__).parent
JOB = "steps.py"


class Started:
    """A job under way: what rank 0 prints, by when."""

    def __init__(self, sandbox: Sandbox, processes: Sequence[subprocess.Popen[str]], began: float) -> None:
        self.began = began
        self._sandbox = sandbox
        self._processes = processes
        self._lines: list[tuple[float, str]] = []
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        stream = self._processes[0].stdout
        assert stream is not None
        for line in stream:
            with self._news:
                self._lines.append((time.monotonic(), line))
                self._news.notify_all()
        with self._news:
            self._lines.append((time.monotonic(), ""))
            self._news.notify_all()

    def line(self, text: str, timeout: float = 300.0) -> tuple[float, str]:
        """When the first line with ``text`` came, and that line. Ends the measurement where none comes."""
        with self._news:
            found = self._news.wait_for(lambda: self._first(text) or self._at_end(), timeout)
            first = self._first(text)
            if not found or first is None:
                raise SystemExit(f"no {text!r} in:\n" + "".join(line for _, line in self._lines[-25:]))
            return first

    def _first(self, text: str) -> tuple[float, str] | None:
        return next((each for each in self._lines if text in each[1]), None)

    def _at_end(self) -> bool:
        return bool(self._lines) and self._lines[-1][1] == ""

    @property
    def returned(self) -> bool:
        return all(process.poll() is not None for process in self._processes)

    @property
    def pid(self) -> int:
        return self._processes[0].pid

    def ranks(self, host: VirtualHost) -> list[int]:
        """The pids, as the host sees them, of the job's own processes there."""
        return [pid for pid in host.pids() if _is_rank(host, pid)]

    def clean(self, hosts: Sequence[VirtualHost]) -> bool:
        return self.returned and not any(self.ranks(host) for host in hosts)

    def end(self) -> None:
        """Whatever it takes, so that the next measurement begins from nothing."""
        for process in self._processes:
            process.kill()
            process.wait()
        while left := [
            (host, pid) for host in self._sandbox.hosts for pid in host.pids() if _is_job(host, pid)
        ]:
            for host, pid in left:
                host.run(["kill", "-9", str(pid)])
            time.sleep(0.1)


def _command(host: VirtualHost, pid: int) -> list[str]:
    try:
        return (host.root / "proc" / str(pid) / "cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []


def _is_rank(host: VirtualHost, pid: int) -> bool:
    words = _command(host, pid)
    return any(word.endswith(JOB) for word in words) and not _starts_others(words)


def _is_job(host: VirtualHost, pid: int) -> bool:
    words = _command(host, pid)
    return any(word.endswith(JOB) for word in words) or _starts_others(words)


def _starts_others(words: Sequence[str]) -> bool:
    return any(word in ("torch.distributed.run", "deepspeed.launcher.launch") for word in words)


def by_hand(sandbox: Sandbox, arguments: Sequence[str], port: int) -> Started:
    """The code lies on every host, the variables are known, and one ssh a host starts torchrun."""
    began, processes = time.monotonic(), []
    for node_rank, host in enumerate(sandbox.hosts):
        argv = [
            sys.executable, "-m", "torch.distributed.run", f"--nnodes={len(sandbox.hosts)}",
            "--nproc-per-node=1", f"--node-rank={node_rank}",
            f"--master-addr={sandbox.hosts[0].address()}", f"--master-port={port}", JOB, *arguments,
        ]  # fmt: skip
        command = (
            f"cd {shlex.quote(str(_HERE))} && GLOO_SOCKET_IFNAME=eth0 PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1"
        )
        ssh = ["ssh", "-F", str(sandbox.ssh_config), host.name, f"{command} {shlex.join(argv)}"]
        processes.append(_process(ssh))
    return Started(sandbox, processes, began)


def by_deepspeed(sandbox: Sandbox, arguments: Sequence[str], port: int) -> Started:
    """`deepspeed --launcher pdsh` as its manual says, with the variables in ``.deepspeed_env``."""
    folder = sandbox.directory / "deepspeed"
    folder.mkdir(exist_ok=True)
    shutil.copy(_HERE / JOB, folder)
    (folder / ".deepspeed_env").write_text("GLOO_SOCKET_IFNAME=eth0\nOMP_NUM_THREADS=1\nDS_ACCELERATOR=cpu\n")
    argv = [
        str(Path(sys.executable).with_name("deepspeed")), "--hostfile", str(sandbox.hostfile),
        "--launcher", "pdsh", "--no_ssh_check", "--force_multi", "--master_addr", sandbox.hosts[0].address(),
        "--master_port", str(port), JOB, *arguments,
    ]  # fmt: skip
    own = {
        "PDSH_SSH_ARGS_APPEND": f"-F {sandbox.ssh_config}",
        "PDSH_RCMD_TYPE": "ssh",
        "DS_ACCELERATOR": "cpu",
    }
    began = time.monotonic()
    return Started(sandbox, [_process(argv, folder, own)], began)


def by_launch(sandbox: Sandbox, arguments: Sequence[str], port: int) -> Started:
    """`clusterctl launch`, which asks and judges the hosts, proves the network and copies the code first."""
    return _launched(sandbox, arguments, "torchrun")


def by_launch_deepspeed(sandbox: Sandbox, arguments: Sequence[str], port: int) -> Started:
    return _launched(sandbox, arguments, "deepspeed")


def _launched(sandbox: Sandbox, arguments: Sequence[str], engine: str) -> Started:
    argv = [
        sys.executable, "-m", "clusterctl", "launch", "-H", str(sandbox.hostfile), "--engine", engine,
        "--workdir", str(_HERE), JOB, *arguments,
    ]  # fmt: skip
    began = time.monotonic()
    return Started(sandbox, [_process(argv, _HERE)], began)


def _process(
    argv: Sequence[str], cwd: Path | None = None, own: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv, cwd=cwd, env=os.environ | (own or {}), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


Starter = Callable[[Sandbox, Sequence[str], int], Started]
STARTERS: dict[str, Starter] = {
    "torchrun by hand": by_hand,
    "clusterctl launch": by_launch,
    "deepspeed over pdsh": by_deepspeed,
    "launch --engine deepspeed": by_launch_deepspeed,
}


def present() -> dict[str, Starter]:
    """Those whose programs are here; what is missing is printed."""
    if shutil.which("pdsh"):
        return STARTERS
    print("  pdsh: not on this machine")
    return {name: starter for name, starter in STARTERS.items() if "deepspeed" not in name}
