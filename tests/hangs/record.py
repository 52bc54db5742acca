"""Records what real processes show: ``python -m tests.hangs.record [CASE ...]``.

Four ranks on two imagined hosts, gloo, torch's debug server. Paths of this machine are replaced by those of
an imagined user.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from clusterctl.messages.evidence import HostEvidence
from clusterctl.node.observe import recorder_dump, stacks
from tests.hangs.fixtures import CASES, HERE, Fixture, path_of

TRAIN = Path(__file__).with_name("scripts") / "train.py"
WORLD = 4
PER_HOST = 2
BETWEEN = 4.0
_START = (
    "import os, runpy, sys; from torch._C._distributed_c10d import _WorkerServer as s;"
    "s = s(os.environ.pop('SOCKET')); sys.argv = sys.argv[1:];"
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


class Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(3)
        self.sock.connect(self.path)


def ask(path: str, handler: str) -> str | None:
    try:
        connection = Unix(path)
        connection.request("POST", f"/handler/{handler}")
        return connection.getresponse().read().decode("utf-8", "replace")
    except OSError:
        return None


def process(pid: int) -> dict[str, Any]:
    base = Path(f"/proc/{pid}")
    name, _, rest = (base / "stat").read_text().rpartition(")")
    fields = rest.split()
    io = dict(line.split(": ") for line in (base / "io").read_text().splitlines())
    command = (base / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return {
        "pid": pid,
        "parent": int(fields[1]),
        "command": command or f"[{name.partition('(')[2]}]",
        "state": fields[0],
        "wchan": (base / "wchan").read_text().strip("0"),
        "cpu": (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"),
        "read": int(io["read_bytes"]),
        "written": int(io["write_bytes"]),
        "major_faults": int(fields[9]),
    }


def descendants(pid: int) -> list[int]:
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [pid] + [below for child in children for below in descendants(child)]


def look(
    number: int, processes: dict[int, subprocess.Popen[bytes]], directory: str
) -> dict[int, HostEvidence]:
    hosts: dict[int, Any] = {}
    for rank, child in processes.items():
        host = hosts.setdefault(rank // PER_HOST, {"look": number, "time": time.time(), "ranks": []})
        if child.poll() is not None:
            continue
        seen = [process(pid) for pid in descendants(child.pid)]
        asked = seen[0]["state"] != "T"
        text = ask(f"{directory}/{rank}", "dump_traceback") if asked else None
        dump = ask(f"{directory}/{rank}", "fr_trace_json") if asked else None
        host["ranks"].append(
            {
                "rank": rank,
                "processes": seen,
                "threads": stacks.parse(text or ""),
                "source": "worker server" if text else "",
                "recorder": recorder_dump.parse(dump or ""),
            }
        )
    return msgspec.convert(hosts, dict[int, HostEvidence])


def record(case: str) -> Fixture:
    with tempfile.TemporaryDirectory() as directory:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        processes = {}
        for rank in range(WORLD):
            env = {
                **os.environ,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank % PER_HOST),
                "WORLD_SIZE": str(WORLD),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
                "SOCKET": f"{directory}/{rank}",
                "SCRATCH": directory,
                "TORCH_EXTENSIONS_DIR": os.environ.get("TORCH_EXTENSIONS_DIR", directory),
                "CASE": case,
            }
            argv = [sys.executable, "-c", _START, str(TRAIN), case]
            processes[rank] = subprocess.Popen(argv, env=env, start_new_session=True)
        try:
            time.sleep(40 if case == "zero2" else 15)  # DeepSpeed compiles first
            first = look(1, processes, directory)
            time.sleep(BETWEEN)
            second = look(2, processes, directory)
            exits = {
                rank: child.returncode for rank, child in processes.items() if child.returncode is not None
            }
        finally:
            for child in processes.values():
                for pid in descendants(child.pid) if child.poll() is None else []:
                    os.kill(pid, signal.SIGKILL)
                child.wait()
    return neutral(Fixture(first=first, second=second, exits=exits))


def neutral(fixture: Fixture) -> Fixture:
    text = msgspec.json.encode(fixture).decode()
    text = text.replace(str(Path(sys.prefix) / "lib"), "/opt/env/lib").replace(
        sys.executable, "/opt/env/bin/python"
    )
    text = text.replace(sys.base_prefix, "/usr").replace(str(TRAIN.parent), HERE)
    return msgspec.json.decode(text.encode(), type=Fixture)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", default=CASES)
    for case in parser.parse_args().cases:
        fixture = record(case)
        path_of(case).write_bytes(msgspec.json.encode(fixture) + b"\n")
        print(case, "recorded; ended:", fixture.exits, flush=True)


if __name__ == "__main__":
    main()
