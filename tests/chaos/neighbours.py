"""Other jobs on the hosts, of the same users as the runs: whatever is played, nobody touches them."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = Path(__file__).resolve().parent / "scripts/neighbour.py"
_BORN = "there\n"
_PATIENCE = 60.0


@dataclass
class Neighbour:
    """A job of a user of the host whose first process is ``root``."""

    root: int
    name: str
    process: subprocess.Popen[bytes]
    pid: int = 0

    @classmethod
    def start(cls, root: int, name: str, user: int, home: str) -> Neighbour:
        """Until it works. It has the words and the variables of a rank, but bears the mark of no run."""
        enter = ["nsenter", "-m", "-n", "-p", "-u", "-i", "-S", str(user), "-G", str(user), "-t", str(root)]
        ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
        process = subprocess.Popen(
            [*enter, sys.executable, "-c", _SCRIPT.read_text(), name, "cheap.py"],
            env={"HOME": home, "PATH": "/usr/bin:/bin", "TORCHELASTIC_RUN_ID": name} | ranks,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        found = cls(root, name, process)
        until = time.monotonic() + _PATIENCE
        while found.signals() is None:
            assert time.monotonic() < until and process.poll() is None, f"neighbour {name} was not born"
            time.sleep(0.02)
        found.pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        return found

    def signals(self) -> list[str] | None:
        """Those that came; None before it has begun."""
        path = Path(f"/proc/{self.root}/root/tmp/neighbour-{self.name}")
        text = path.read_text() if path.exists() else ""
        return text.removeprefix(_BORN).split() if text.startswith(_BORN) else None

    def harm(self) -> str:
        """What was done to it; "" where it was let alone."""
        if self.process.poll() is not None:
            return f"it was ended: {self.process.returncode}"
        state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state not in "SRD":
            return f"it is in state {state}"
        if came := self.signals():
            return f"signals came: {came}"
        if not Path(f"/proc/{self.root}/root/dev/shm/torch_neighbour_{self.name}").exists():
            return "its shared memory was removed"
        return ""

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
