"""DeepSpeed's own launcher, a child of the controller: it fans out over pdsh, agents run what it brings."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from clusterctl.engines import deepspeed
from clusterctl.plan.model import LaunchPlan

# DeepSpeed writes its own interpreter's path into the remote command. Here that path is the `enter` file,
# which every host has at the same place.
_START = "import sys; sys.executable = sys.argv.pop(1); from deepspeed.launcher.runner import main; main()"
_END_TIMEOUT = 10.0
_KILL_TIMEOUT = 2.0
_LOG_TAIL = 256 * 1024
_PDSH_END = re.compile(r"^pdsh@[^:]+: (?P<host>\S+): ssh exited with exit code (?P<code>\d+)$")


def pdsh_failures(text: str) -> dict[str, str]:
    """Hosts whose ssh ended with an error, by pdsh's own lines: host -> the last line from there before."""
    found: dict[str, str] = {}
    said: dict[str, str] = {}
    for line in text.splitlines():
        end = _PDSH_END.match(line.strip())
        if end:
            found[end["host"]] = said.get(end["host"]) or f"ssh exited with exit code {end['code']}"
            continue
        host, colon, rest = line.partition(": ")
        if colon and rest.strip():
            said[host] = rest.strip()
    return found


class DeepSpeedLauncher:
    """Started at once. Nothing of the caller's environment travels through it except what ssh needs."""

    def __init__(self, plan: LaunchPlan, log: Path, ssh_config: Path | None) -> None:
        self.log = log
        self._read_to = 0
        self._unreached: dict[str, str] = {}
        self._trouble = ""
        env = {name: os.environ[name] for name in ("HOME", "PATH", "SSH_AUTH_SOCK") if name in os.environ}
        # A name that is in no directory: the user's own .deepspeed_env has been read already, as a setting.
        env.update(DS_ENV_FILE=".clusterctl-sends-variables-itself", DS_ACCELERATOR="cpu")
        ours = "-o BatchMode=yes" + (f" -F {ssh_config}" if ssh_config else "")
        env["PDSH_SSH_ARGS_APPEND"] = f"{ours} {plan.pdsh_ssh_args}".strip()
        # A file without a name: a controller that is killed cannot leave it behind.
        with (
            os.fdopen(os.memfd_create("hostfile"), "w") as hostfile,
            os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as stream,
        ):
            hostfile.write(deepspeed.hostfile(plan))
            hostfile.flush()
            argv = deepspeed.pdsh_argv(plan, f"/proc/self/fd/{hostfile.fileno()}")
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, plan.enter, *argv],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                pass_fds=(hostfile.fileno(),),
                cwd="/",
                env=env,
                start_new_session=True,
            )

    def look(self) -> None:
        """Read what it has said since. Asks the disk on which its log lies, as nothing else here does."""
        code = self._process.poll()
        size = self._size()
        if size != self._read_to or (code and not self._trouble):
            self._read_to = size
            text = self._text()
            self._unreached = pdsh_failures(text)
            if code and code < 0:  # what it had printed says nothing of that
                self._trouble = f"deepspeed's launcher was ended from outside by signal {-code}"
            elif code:
                last = text.strip().splitlines()
                self._trouble = f"deepspeed's launcher ended with exit code {code}"
                self._trouble += f": {last[-1]}" if last else ""

    @property
    def trouble(self) -> str:
        """Why it ended before its time: its last line; empty while it runs and after a good end."""
        return self._trouble

    @property
    def unreached(self) -> dict[str, str]:
        """Hosts that pdsh says it is not, or no longer, logged in to: host -> what was said of it last.

        It says so of a rank that failed, too; whether an engine had begun there, others know.
        """
        return self._unreached

    def _size(self) -> int:
        try:
            return self.log.stat().st_size
        except OSError:
            return 0

    def _text(self) -> str:
        try:
            with self.log.open("rb") as stream:
                stream.seek(max(0, self._size() - _LOG_TAIL))
                return stream.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def close(self, *, at_once: bool = False) -> None:
        """Wait a moment for its own end, else kill its session, which may outlast that: its disk may hang.

        ``at_once``: its end would be waited for in vain, since a host is gone that it still waits for.

        Never TERM or INT: DeepSpeed answers those with `pkill -f` on every host, which hits other jobs too.
        """
        try:
            self._process.wait(0.0 if at_once else _END_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_KILL_TIMEOUT)
