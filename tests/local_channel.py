"""A channel to a node program that runs here, as a child: pipes instead of SSH."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

from clusterctl.ask.bundle import REMOTE_COMMAND
from clusterctl.transport.protocol import Stuck


class LocalChannel:
    """What a login shell would start, in a home directory of its own. `send` waits for it."""

    pending = 0

    def __init__(self, home: Path, host: str = "here") -> None:
        self.host = host
        self.seconds = 0.0
        self._ended = False
        self._process = subprocess.Popen(
            shlex.split(REMOTE_COMMAND.removeprefix("exec ")),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=home,
            env={"HOME": str(home), "PATH": os.environ["PATH"]},
            start_new_session=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout
        os.set_blocking(self._output.fileno(), False)

    def fileno(self) -> int:
        return self._output.fileno()

    def send(self, data: bytes) -> None:
        self._input.write(data)
        self._input.flush()

    def close_input(self) -> None:
        self._input.close()

    def receive(self) -> tuple[bytes, bytes]:
        data = b""
        while piece := self._output.read(1 << 16):
            data += piece
        self._ended = piece == b""
        return data, b""

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def stuck(self) -> Stuck:
        return ""

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def close(self) -> None:
        """As sshd does with a session whose client is gone."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()
