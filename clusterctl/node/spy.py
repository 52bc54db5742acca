"""What `clusterctl py-spy` runs on a host: the Python stacks of a rank, by py-spy or as the rank shows them.

py-spy says most, but is seldom installed, and in containers ptrace is often forbidden. Every rank can be
asked for its stacks as a hanging one is: by torch's debug server, or by a signal for faulthandler.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from .observe import signalled, stacks
from .observe.debug_server import NoAnswer, ask
from .shared.processes import descendants, process_table, stat_of
from .ssh import OVER, complain, environment, is_rank, outside

UNSEEN = 4
"""Exit code: nothing shows its stacks."""
_STOPPED = ("T", "t")
_PY_SPY_TIMEOUT = 15.0
_ANSWER_TIMEOUT = 5.0


def main(request, files):
    run, rank, pid = request["run"], request["rank"], request["pid"]
    env = environment(pid)
    if not is_rank(env, run, rank):
        return complain("rank %d of %s does not run here any more" % (rank, run), OVER)
    try:
        text, why = _spied(pid, outside(env, os.environ), request["python"]), ""
    except NoAnswer as error:
        text, why = "", str(error)
    if not text:
        try:
            text, source = _own(pid, env.get("CLUSTERCTL_STACKS", ""))
        except NoAnswer as error:
            hint = "hint: on this host: %s -m pip install py-spy" % request["python"]
            return complain("%s; rank %d itself: %s\n%s" % (why, rank, error, hint), UNSEEN)
        sys.stderr.write("%s; these are the stacks that rank %d shows by %s\n" % (why, rank, source))
    sys.stdout.write(text)
    return 0


def _spied(pid, env, python):
    """What py-spy prints. Raises NoAnswer."""
    beside = os.path.join(os.path.dirname(python), "py-spy")
    program = shutil.which("py-spy", path=env.get("PATH")) or shutil.which(beside)
    if program is None:
        raise NoAnswer("py-spy is not installed there")
    stat = stat_of(pid)
    stopped = stat is not None and stat.state in _STOPPED
    words = [program, "dump", *(["--nonblocking"] if stopped else []), "--pid", str(pid)]
    try:
        told = subprocess.run(
            words, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PY_SPY_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        raise NoAnswer("py-spy did not answer within %g s" % _PY_SPY_TIMEOUT) from None
    except OSError as error:
        raise NoAnswer("py-spy cannot be started: %s" % error.strerror) from error
    if told.returncode:
        said = told.stderr.decode("utf-8", "replace").split("\n", 1)[0]
        raise NoAnswer("py-spy sees nothing: %s" % (said or "it ended with %d" % told.returncode))
    return told.stdout.decode("utf-8", "replace")


def _own(pid, folder):
    """(text, what it comes by), from the rank's process or, where that is a shell, the first below it that
    shows anything. Raises NoAnswer."""
    why = "it has no Python that shows its stacks"
    for each in (pid, *sorted(descendants([pid], process_table()))) if folder else ():
        stat = stat_of(each)
        if stat is not None and stat.state in _STOPPED:
            why = "it was stopped by a signal, so it cannot show its stacks"
            continue
        for ending, source, shown in (
            (".sock", "torch's debug server", _served),
            (".stacks", "faulthandler", _signalled),
        ):
            path = os.path.join(folder, "%d%s" % (each, ending))
            if not os.path.exists(path):
                continue
            try:
                threads = stacks.parse(shown(path, each))
            except NoAnswer as error:
                why = str(error)
                continue
            if threads:
                return "Process %d\n%s" % (each, "".join(map(_lines, threads))), source
    raise NoAnswer(why)


def _served(path, pid):
    return ask(path, "dump_traceback", _ANSWER_TIMEOUT).decode("utf-8", "replace")


def _signalled(path, pid):
    return signalled.stacks(path, pid, _ANSWER_TIMEOUT)


def _lines(thread):
    """As py-spy writes a thread."""
    name = thread["name"] or ("MainThread" if thread["main"] else "")
    frames = ["    %s (%s:%d)\n" % (function, file, line) for file, line, function in thread["frames"]]
    return "Thread%s\n%s" % (' "%s"' % name if name else "", "".join(frames))
