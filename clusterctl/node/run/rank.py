"""The rank waiter: stands between the engine and the user's script, and reports exactly how it ended.

torchrun tells 1 for every failure, a shell tells 137 for both an exit code and a signal. The waiter forks,
the child becomes the user's own command, and what `wait4` says is written to ``exit-<rank>.json``. Its argv
is the run id alone, so neither the engine nor the waiter shows the user's arguments. exec rather than runpy,
because runpy breaks pickling of what `__main__` defines.
"""

import ctypes
import json
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1


def die_with_parent(parent):
    """Be killed when the parent thread ends; at once if it has ended already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def write_whole(path, value):
    """Write JSON so that a reader sees all of it or none."""
    partial = path + ".partial"
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json.dump(value, stream)
    os.replace(partial, path)


def rank_environment(job, environ, run_dir):
    """The engine's environment, corrected: DeepSpeed permutes LOCAL_RANK on uneven hosts."""
    rank = int(environ["RANK"])
    local_rank = job["ranks"].index(rank)
    env = dict(environ)
    env.update(
        LOCAL_RANK=str(local_rank),
        LOCAL_WORLD_SIZE=str(len(job["ranks"])),
        GROUP_RANK=str(job["node_rank"]),
        CLUSTERCTL_ERROR_FILE=os.path.join(run_dir, "error-%d.json" % rank),
    )
    site = os.path.join(run_dir, "code", "site")
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (site, env.get("PYTHONPATH"))))
    return rank, local_rank, env


def become(command, env, cwd, log, parent):
    """In the child: the log as stdout and stderr, no stdin, the run's directory, the user's command."""
    die_with_parent(parent)
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.chdir(cwd)
        os.execvpe(command[0], command, env)
    except OSError as error:
        os.write(log, ("clusterctl: cannot start %s: %s\n" % (command[0], error)).encode())
    os._exit(127)


def main():
    parent = os.getppid()
    die_with_parent(parent)
    run_dir = os.path.abspath(__file__)
    for _ in range(4):  # <run directory>/code/clusterctl_node/run/rank.py
        run_dir = os.path.dirname(run_dir)
    with open(os.path.join(run_dir, "job.json")) as stream:
        job = json.load(stream)
    rank, local_rank, env = rank_environment(job, os.environ, run_dir)
    command = list(job["command"])
    if job["pass_local_rank"]:
        command.append("--local_rank=%d" % local_rank)
    command += job["arguments"]
    # Engines signal the whole group or tree: the script has the signal already, the waiter stays to report.
    asked = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, lambda *_: asked.append(time.time()))
    log = os.open(
        os.path.join(run_dir, "logs", "rank-%d.log" % rank),
        os.O_WRONLY | os.O_CREAT | os.O_APPEND,
        0o600,
    )
    started = time.time()
    waiter = os.getpid()
    child = os.fork()
    if child == 0:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        become(command, dict(env, PWD=job["cwd"]), job["cwd"], log, waiter)
    write_whole(
        os.path.join(run_dir, "start-%d.json" % rank),
        {"rank": rank, "local_rank": local_rank, "pid": child, "waiter": waiter, "time": started},
    )
    _, status, usage = os.wait4(child, 0)
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    code = 128 + number if number is not None else os.WEXITSTATUS(status)
    write_whole(
        os.path.join(run_dir, "exit-%d.json" % rank),
        {
            "rank": rank,
            "local_rank": local_rank,
            "pid": child,
            "code": code,
            "signal": number,
            "started": started,
            "asked": asked[0] if asked else None,
            "ended": time.time(),
            "peak_memory": usage.ru_maxrss * 1024,
        },
    )
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
