"""The rank waiter: stands between the engine and the user's script, and reports exactly how it ended.

torchrun tells 1 for every failure, a shell tells 137 for both an exit code and a signal. The waiter forks,
the child becomes the user's own command, and what `wait4` says goes into the run directory. Its argv is the
run id alone, so neither the engine nor the waiter shows the user's arguments. exec rather than runpy,
because runpy breaks pickling of what `__main__` defines.

It belongs to the agent, not to the engine that started it: an engine that is killed does not take the ranks
with it unheard, and with the agent gone the waiter ends all that bears the run's mark.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

from ..shared import compiled
from ..shared.processes import (
    adopt_orphans,
    die_with_parent,
    is_running,
    kill_all,
    open_pidfd,
    send,
    stat_of,
    tag_of,
)
from .directory import (
    AGENT,
    INPUT,
    INPUT_END,
    JOB,
    LEASE,
    NodeDirectory,
    boottime,
    error_of,
    exit_of,
    start_of,
)

# Engines signal the whole group or tree: the script has the signal already, the waiter stays to report.
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
SHARED_SIGNALS = (*ENDING_SIGNALS, signal.SIGUSR1, signal.SIGUSR2)
LOOK_SECONDS = 1.0
INPUT_SECONDS = 0.05
# An agent that lives ends its node some seconds after its lease. One that does not is looked for so often,
# and must be found as often in a row: while a whole host stood still, nobody could act.
LEASE_SECONDS = 10.0
LEASE_LOOKS = 5
PIECE = 1 << 16


def main(arguments):
    directory = NodeDirectory(os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[0]))))
    job, agent = directory.read(JOB), directory.read(AGENT)
    if job is None or agent is None:
        return 1  # the run is over
    return Waiter(directory, job, agent).main()


class Waiter:
    def __init__(self, directory, job, agent):
        self.directory = directory
        self.job = job
        self.rank, self.local_rank, self.env = rank_environment(job, os.environ, directory)
        self.command = list(job["command"])
        if job["pass_local_rank"]:
            self.command.append("--local_rank=%d" % self.local_rank)
        self.command += job["arguments"]
        self.agent = agent
        self.input = InputPipe(directory) if job.get("stdin") and self.rank == 0 else None
        self.child = 0
        self.asked: float | None = None
        self.poll = select.poll()
        self.lease_look = boottime() + LEASE_SECONDS
        self.lease_over = 0

    def main(self):
        adopt_orphans()
        self.agent_end = open_pidfd(self.agent["pid"])
        if self.agent_end is not None:
            self.poll.register(self.agent_end, select.POLLIN)
        self.signals = self.listen_to_signals()
        started = time.time()
        self.start()
        stat = stat_of(self.child)
        own = stat_of(os.getpid())
        self.report(
            start_of(self.rank),
            pid=self.child,
            pid_started=stat.started if stat else 0,
            waiter=os.getpid(),
            waiter_started=own.started if own else 0,
            time=started,
        )
        if self.local_rank == 0:
            compiled.keep()  # where this python's code is another than the relay's
        status, usage = self.wait()
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        code = 128 + number if number is not None else os.WEXITSTATUS(status)
        self.drain()  # what came before this report does not release
        self.report(
            exit_of(self.rank),
            pid=self.child,
            code=code,
            signal=number,
            started=started,
            asked=self.asked,
            ended=time.time(),
            peak_memory=usage.ru_maxrss * 1024,
        )
        if code:
            self.wait_for_release()
        os._exit(code)

    def listen_to_signals(self):
        heard, speak = os.pipe()
        os.set_blocking(heard, False)
        os.set_blocking(speak, False)
        signal.set_wakeup_fd(speak, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *SHARED_SIGNALS):
            signal.signal(number, self.note_signal)
        self.poll.register(heard, select.POLLIN)
        return heard

    def note_signal(self, number, _):
        if number in ENDING_SIGNALS and self.asked is None:
            self.asked = time.time()

    def start(self):
        log = self.directory.append_log(self.directory.log_of(self.rank))
        source = self.input.heard if self.input else os.open(os.devnull, os.O_RDONLY)
        waiter = os.getpid()
        self.child = os.fork()
        if self.child == 0:
            env = dict(self.env, PWD=self.job["cwd"])
            become(self.command, env, self.job["cwd"], source, log, waiter)
        os.close(source)
        os.close(log)

    def report(self, name, **what):
        """On a disk that refuses even this, the agent learns of the end from the engine."""
        with contextlib.suppress(OSError):
            self.directory.overwrite(name, dict(what, rank=self.rank, local_rank=self.local_rank))

    def wait(self):
        """Until the script ends: (status, resource usage). With the agent gone, does not return."""
        while True:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == self.child:
                return status, usage
            if pid == 0:
                self.sleep()

    def wait_for_release(self):
        """An engine that saw this end would signal the other ranks, after the agent and in its own way."""
        while not self.sleep():
            continue

    def sleep(self):
        """For a moment. True when SIGTERM has come; never returns with the agent gone."""
        if self.input is not None and not self.input.move():
            self.input = None
        self.poll.poll(int(1000 * (LOOK_SECONDS if self.input is None else INPUT_SECONDS)))
        if not is_running(self.agent["pid"], self.agent["started"]) or self.agent_stands_still():
            self.end_all()
        return signal.SIGTERM in self.drain()

    def agent_stands_still(self):
        """Whether it has let its lease pass and did nothing."""
        if boottime() < self.lease_look:
            return False
        self.lease_look = boottime() + LEASE_SECONDS
        lease = self.directory.read(LEASE)
        over = boottime() > lease["until"] if lease else self.directory.is_missing(LEASE)
        self.lease_over = self.lease_over + 1 if over else 0
        return self.lease_over >= LEASE_LOOKS

    def drain(self):
        try:
            return os.read(self.signals, PIECE)
        except BlockingIOError:
            return b""

    def end_all(self):
        """In the agent's place: nothing of the run stays, nor what only a living run may keep on a disk."""
        if is_running(self.agent["pid"], self.agent["started"]):
            send(self.agent["pid"], signal.SIGKILL)
        kill_all(tag_of(self.job["run"], self.directory.part), below=os.getpid())
        self.directory.remove(JOB, INPUT, INPUT_END)
        self.directory.remove_stacks()
        os._exit(1)


def rank_environment(job, environ, directory):
    """The engine's environment, corrected: DeepSpeed permutes LOCAL_RANK on uneven hosts, and tells ranks of
    devices where there are none."""
    rank = int(environ["RANK"])
    local_rank = job["ranks"].index(rank)
    env = dict(environ)
    env.update(
        LOCAL_RANK=str(local_rank),
        LOCAL_WORLD_SIZE=str(len(job["ranks"])),
        GROUP_RANK=str(job["node_rank"]),
        CLUSTERCTL_ERROR_FILE=directory.path(error_of(rank)),
        CLUSTERCTL_METRICS=directory.path(directory.metrics_of(rank)),
    )
    if job["devices"] is None:
        env.pop("CUDA_VISIBLE_DEVICES", None)
    else:
        env["CUDA_VISIBLE_DEVICES"] = job["devices"]
    if job.get("observed"):
        env["CLUSTERCTL_STACKS"] = directory.stacks
    site = directory.path("code/site")
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (site, env.get("PYTHONPATH"))))
    return rank, local_rank, env


def become(command, env, cwd, source, log, parent):
    """In the child: stdin, the log as stdout and stderr, the run's directory, the user's command."""
    try:
        die_with_parent(parent)
        take_default_signals()
        for origin, target in ((source, 0), (log, 1), (log, 2)):
            os.dup2(origin, target)
        os.chdir(cwd)
        os.execvpe(command[0], command, env)
    except OSError as error:
        os.write(log, ("clusterctl: cannot start %s: %s\n" % (command[0], error)).encode())
    finally:
        os._exit(127)


def take_default_signals():
    """As a shell would start it: Python and those above it ignore some (SIGPIPE, SIGXFSZ, SIGHUP)."""
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):
        with contextlib.suppress(OSError, ValueError):  # KILL, STOP, and those the C library keeps
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


class InputPipe:
    """Standard input of rank 0. What comes is kept in a file first: a script that does not read holds up
    nobody, and a broken link loses nothing."""

    def __init__(self, directory):
        self.directory = directory
        self.offset = 0
        self.source = os.open(directory.path(INPUT), os.O_RDONLY | os.O_CLOEXEC)
        self.heard, self.speak = os.pipe()
        os.set_blocking(self.speak, False)

    def move(self):
        """Hand on what has come. False once all has been, or nobody reads any more."""
        over = not self.directory.is_missing(INPUT_END)
        try:
            while True:
                data = os.pread(self.source, PIECE, self.offset)
                if not data:
                    break
                self.offset += os.write(self.speak, data)
        except BlockingIOError:
            return True
        except BrokenPipeError:
            over = True
        if over:
            os.close(self.speak)
            os.close(self.source)
        return not over
