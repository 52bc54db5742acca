"""nvidia-smi, with a limit of time that does not count waiting for a core: a busy host is no sick driver."""

import threading
import time

from ..shared.files import read

SMI_TIMEOUT = 20.0
_LOOK = 0.25


class Smi:
    """One ``nvidia-smi``. All of its runs together may take ``SMI_TIMEOUT``; some may run side by side."""

    def __init__(self, tool, environ):
        self._tool = tool
        self._environ = environ
        self._left = SMI_TIMEOUT

    def run(self, *arguments):
        """(exit code, output, seconds in which it did not wait for a core); the code is None when it was
        killed for its limit."""
        import subprocess  # here, like ctypes: most of the probe's time goes into imports

        began, limit, own = time.monotonic(), max(0.1, self._left), _queued("thread-self")
        child = subprocess.Popen(
            [self._tool, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environ,
        )
        queued = 0.0
        while True:
            queued = max(queued, _queued(child.pid))
            seconds = max(0.0, time.monotonic() - began - queued - (_queued("thread-self") - own))
            try:
                output = child.communicate(timeout=min(_LOOK, max(0.0, limit - seconds)))[0]
                break
            except subprocess.TimeoutExpired:
                if seconds >= limit:
                    # No wait: a driver that hangs keeps even a killed process for ever.
                    child.kill()
                    return None, "no answer within %g s" % limit, seconds
        self._left = min(self._left, limit - seconds)
        return child.returncode, output.decode("utf-8", "replace"), seconds

    def side_by_side(self, asked):
        """Name -> (exit code, output) of runs with these arguments."""
        answers = {}

        def ask(what):
            answers[what] = self.run(*asked[what])[:2]

        threads = [threading.Thread(target=ask, args=(what,), daemon=True) for what in asked]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers


def _queued(whose):
    """Seconds for which a process, or this thread, was ready and had no core; 0 where nobody counts them."""
    try:
        return int(read("/proc/%s/schedstat" % whose).split()[1]) / 1e9
    except (ValueError, IndexError):
        return 0.0
