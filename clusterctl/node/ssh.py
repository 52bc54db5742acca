"""What `clusterctl ssh RUN:RANK` runs on a host: a command where a rank is.

It is sent whole as an argument, since standard input belongs to the person: it imports nothing of its room.
The rank's variables are read here, from the rank itself, and pass no wire.
"""

import base64
import json
import os
import sys

OVER = 3
"""Exit code: the rank does not run any more."""
_OF_THE_SESSION = ("TERM", "COLORTERM", "LANG", "LC_ALL", "SSH_TTY", "SSH_CONNECTION", "SSH_AUTH_SOCK")


def main(text):
    order = json.loads(base64.b64decode(text).decode())
    pid, rank = order["pid"], order["rank"]
    env = environment(pid)
    if not is_rank(env, order["run"], rank):
        return complain("rank %d of %s does not run here any more" % (rank, order["run"]), OVER)
    try:
        os.chdir("/proc/%d/cwd" % pid)
    except OSError as error:
        return complain("the directory of rank %d cannot be entered: %s" % (rank, error.strerror), OVER)
    env = outside(env, os.environ)
    env["PWD"] = os.getcwd()
    words = order["words"]
    if not words:
        words = [os.environ.get("SHELL") or "/bin/sh", "-i"]
    elif len(words) == 1:
        words = ["/bin/sh", "-c", words[0]]
    try:
        os.execvpe(words[0], words, env)
    except OSError as error:
        return complain("%s cannot be started: %s" % (words[0], error.strerror), 127)


def environment(pid):
    """Of a process, empty where that cannot be read."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as stream:
            parts = stream.read().split(b"\0")
    except OSError:
        return {}
    pairs = (os.fsdecode(part).partition("=") for part in parts if b"=" in part)
    return {name: value for name, _, value in pairs}


def is_rank(env, run, rank):
    """Whether these are the variables of that rank: its number may be another process's by now."""
    return env.get("CLUSTERCTL_RUN", "").partition("/")[0] == run and env.get("RANK") == str(rank)


def outside(env, session):
    """The rank's variables for a command that is no part of the run: it is not ended with it, and writes
    nothing into its files."""
    kept = {name: value for name, value in env.items() if not name.startswith("CLUSTERCTL_")}
    paths = [each for each in kept.get("PYTHONPATH", "").split(os.pathsep) if not each.endswith("code/site")]
    if any(paths):
        kept["PYTHONPATH"] = os.pathsep.join(paths)
    else:
        kept.pop("PYTHONPATH", None)
    kept.update((name, session[name]) for name in _OF_THE_SESSION if name in session)
    return kept


def complain(text, code):
    sys.stderr.write("clusterctl: %s\n" % text)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
