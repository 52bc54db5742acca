"""The agent: owns one node's part of a run. The engine is its child; what it knows, it writes to files.

It runs detached from any SSH session, and speaks through its run directory only: it appends to
``events.jsonl``, reads ``lease`` and ``stop.json``. A text editor can play its other side. Whatever happens,
it ends its own node: on the first failure of a rank, on a stop, when the lease runs out, and when its
directory is gone.

Its standard input is one JSON object, the environment of the ranks, which no file ever holds.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import sys
import time

from ..shared.gpu_holders import still_held
from ..shared.processes import adopt_orphans, identity, kill_all, run_processes, tag_of
from ..shared.watch import CLOSED, MODIFIED, MOVED_HERE, ONCE, REMOVED, Watch
from ..watch.watcher import Watcher
from .directory import (
    AGENT,
    ENTER,
    INPUT,
    INPUT_END,
    JOB,
    LEASE,
    STOP,
    EventLog,
    NodeDirectory,
    boottime,
    full_disk,
    no_blocks,
    no_space,
)
from .dumps import publish
from .ends import was_told
from .engine import Engine
from .log_limit import LogLimit
from .log_times import LogTimes
from .memory import OutOfMemory
from .ranks import Ranks
from .slots import Halted, Refusal, take_slots
from .strays import strays, told
from .traces import Traces

# Correct without any wake-up: so often the lease, and so often everything is looked at anyway.
LEASE_SECONDS = 1.0
LOOK_SECONDS = 5.0
ENTER_TIMEOUT = 120.0
# How long an engine may take to end after its ranks, and waiters to report what was killed.
ENGINE_TIMEOUT = 3.0
REPORT_TIMEOUT = 2.0
# How long the driver may take to give back the memory of processes that have ended.
GPU_TIMEOUT = 3.0


class Agent:
    def __init__(self, run_dir, env):
        self.directory = NodeDirectory(run_dir)
        self.job = self.directory.read(JOB)
        self.tag = tag_of(self.job["run"], self.directory.part)
        self.events = EventLog(self.directory)
        self.ranks = Ranks(self.directory, self.job["ranks"])
        env = dict(env, CLUSTERCTL_RUN=self.tag)
        self.engine = Engine(self.directory, self.job, env)
        self.watcher = Watcher(self.directory, env)
        self.memory = OutOfMemory()
        self.traces = Traces(self.tag, env)
        self.watch = Watch(LEASE)
        self.log_times = LogTimes(self.directory.path(self.directory.times))
        head, limit = self.job["log_head"], self.job["log_limit"]
        self.log_limit = LogLimit(self.directory, head, limit, self.log_times, self.listen_to_logs)
        self.enter_deadline = boottime() + ENTER_TIMEOUT
        self.lease_until = boottime() + ENTER_TIMEOUT
        self.stopped_at: float | None = None  # like killed_at, what clocks on the wall say
        self.killed_at: float | None = None
        self.kill_deadline = math.inf
        self.end_deadline = math.inf
        self.told_to_end = False
        self.enter = stamp_of(self.job["enter"])
        self.locks = []

    def main(self):
        adopt_orphans()
        self.watch.add(self.directory.root, CLOSED | MOVED_HERE | REMOVED)
        self.watch.add_descriptor(self.listen_to_signals())
        own = identity(os.getpid())
        self.directory.overwrite(AGENT, own)
        self.events.tell("agent", **own)
        for note in self.job["notes"]:
            self.note(note)
        try:
            with contextlib.suppress(Halted):  # it is stopping
                self.locks = take_slots(self.job, self.is_stopped, self.note)
            self.work()
        except Refusal as refusal:
            self.events.tell("refused", reason=str(refusal), run=refusal.run)
        except Exception as error:  # whatever it is, the controller must not take this end for a success
            known = no_space(error, self.directory.root) if isinstance(error, OSError) else ""
            self.fail(known or "the agent broke: %s: %s" % (type(error).__name__, error))
            raise
        finally:
            self.end()

    def listen_to_signals(self):
        """A descriptor that says when one has come; SIGTERM is a stop."""
        heard, speak = os.pipe()
        os.set_blocking(speak, False)
        signal.set_wakeup_fd(speak, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self.note_sigterm)
        return heard

    def listen_to_logs(self):
        """For the next time that one grows."""
        self.watch.add(self.directory.path("logs"), MODIFIED | ONCE)

    def note_sigterm(self, *_):
        self.told_to_end = True

    def is_stopped(self):
        """Whether an order to end has come, or no word any more, by now."""
        self.obey()
        self.check_lease()
        return self.stopped_at is not None

    def note(self, text):
        self.events.tell("note", text=text)

    def fail(self, reason):
        self.events.tell("failure", reason=reason)

    def work(self):
        looked = -LOOK_SECONDS
        changed = True
        while True:
            self.reap()
            if changed or boottime() - looked >= LOOK_SECONDS:
                looked = boottime()
                self.look()
                self.obey()
                if self.engine.process is None and self.stopped_at is None:
                    self.start_engine()
            self.log_limit.keep(woken=changed)
            self.tell_warnings()
            self.check_lease()
            if self.is_over():
                return
            changed = self.wait()

    def wait(self):
        """Until something has to be done. Whether something has changed. Logs are looked at meanwhile: they
        grow faster than anything else here happens."""
        end = boottime() + self.pause()
        while (left := end - boottime()) > 0:
            if self.watch.wait(min(left, self.log_limit.pause)):
                return True
            self.log_limit.keep()
        return False

    def pause(self):
        """Seconds until something has to be done though nothing changes."""
        if self.stopped_at is not None:
            return 0.1  # the end of what nobody reports is seen by looking
        return LEASE_SECONDS

    def start_engine(self):
        brought = None
        if self.job["engine"] is None:
            brought = self.directory.read(ENTER)
            if brought is None:
                if boottime() > self.enter_deadline:
                    self.fail("deepspeed's launcher never reached this host")
                    self.stop(0.0, "no engine")
                return
        try:
            pid = self.engine.start(brought)
        except OSError as error:
            self.fail(no_space(error, self.directory.root) or "cannot start the engine: %s" % error)
            self.stop(0.0, "no engine")
            return
        self.events.tell("engine", pid=pid)
        self.watcher.start()

    def tell_warnings(self, *, last=False):
        """What the watches have seen. That something is well again counts only while the run goes on: its end
        frees memory and disks."""
        for warning in self.watcher.end() if last else self.watcher.news():
            if self.stopped_at is None or not warning["over"]:
                self.events.tell("warned", **warning)

    def reap(self):
        """Collect the engine and every orphan that fell to the subreaper."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.engine.take_exit(pid, status):
                self.engine_ended()

    def engine_ended(self):
        self.look()
        code, told = self.engine.code, self.stopped_at is not None
        disk = full_disk(self.directory.root) if code and not told else ""
        if disk:
            self.fail(disk)
        killed = code == 128 + signal.SIGKILL
        swept = killed and self.killed_at is not None
        oom = self.memory.limit_that_killed(self.engine.pid) if killed and not swept else ""
        sent = self.engine.signalled() if code else None
        self.events.tell("engine-exit", code=code, told=told, swept=swept, oom=oom, sent=sent)
        if told:
            return
        if code == 0 and not self.ranks.all_over():
            self.fail("the engine ended while its ranks ran")
        if code or not self.ranks.all_over():
            self.stop(self.job["failure_grace"], "the engine failed")

    def look(self):
        """Starts, then ends in the order they happened."""
        self.events.flush()
        starts, ends = self.ranks.look()
        for start in starts:
            self.events.tell("rank-start", **{key: start[key] for key in ("rank", "local_rank", "pid")})
        if starts and self.stopped_at is not None:
            self.ranks.terminate([start["rank"] for start in starts])
        failed = {rank for rank, report in self.ranks.ended.items() if report["code"]}
        failed_before = bool(failed - {end["rank"] for end in ends})
        for end in ends:
            self.note_end(end, failed_before)
            failed_before = failed_before or bool(end["code"])

    def note_end(self, end, failed_before):
        error = self.ranks.error(end["rank"]) if end["code"] else None
        told = was_told(end, error, failed_before, self.stopped_at, self.killed_at)
        killed = end["signal"] == signal.SIGKILL and not told
        if end["code"] and not told and not killed:
            self.look_at_disk(error)
        self.events.tell(
            "rank-exit",
            told=told,
            error=error,
            oom=self.memory.limit_that_killed(end["pid"]) if killed else "",
            **{key: end[key] for key in ("rank", "code", "signal", "started", "ended", "peak_memory")},
        )
        if end["code"]:
            if not told:
                self.watcher.look_at_once()
            self.stop(self.job["failure_grace"], "rank %d failed" % end["rank"])

    def look_at_disk(self, error):
        """What fails on a full disk without a word could not even leave one: the disk is the cause."""
        disk = full_disk(self.directory.root) or no_blocks(self.job["cwd"])
        if disk and error is None:
            self.fail(disk)
        elif disk:
            self.events.tell("note", text=disk)

    def obey(self):
        if self.told_to_end:
            if self.stopped_at is None:
                self.fail("the agent was ended by SIGTERM: a reboot, or somebody's kill")
            self.stop(0.0, "agent was told to end")
        order = self.directory.read(STOP)
        if order is not None:
            self.stop(order["grace"], order["reason"])

    def check_lease(self):
        if self.stopped_at is not None:
            return
        lease = self.directory.read(LEASE)
        if lease is not None:
            self.lease_until = lease["until"]
        gone = self.directory.is_missing(LEASE)
        if gone or boottime() > self.lease_until:
            reason = "the run directory was removed" if gone else "no word from the controller"
            self.events.tell("lease-over", reason=reason)
            self.stop(self.job["failure_grace"], reason)

    def stop(self, grace, reason):
        """TERM every rank now, KILL what is left after ``grace``. A second order may only shorten that."""
        if self.stopped_at is None:
            self.stopped_at = time.time()
            self.events.tell("stopping", reason=reason, grace=grace)
            self.traces.note(os.getpid())
            self.ranks.terminate()
        self.kill_deadline = min(self.kill_deadline, boottime() + grace)

    def is_over(self):
        """Whether nothing is left to wait for; what still runs then is swept."""
        if self.stopped_at is None:
            return self.engine.code is not None
        now = boottime()
        if self.ranks.all_over():
            self.ranks.release_waiters()
            if not (self.engine.running and self.ranks.started):
                return True
            self.end_deadline = min(self.end_deadline, now + ENGINE_TIMEOUT)
        elif now >= self.kill_deadline and self.killed_at is None:
            self.killed_at = time.time()
            self.ranks.kill()
            self.end_deadline = min(self.end_deadline, now + REPORT_TIMEOUT)
        return now >= self.end_deadline

    def end(self):
        self.look()  # what ended without having been seen has left its report before
        self.tell_warnings(last=True)
        if self.killed_at is None:
            self.killed_at = time.time()
        own = {report["pid"] for report in self.ranks.started.values()}
        own.update(run_processes(self.tag, below=os.getpid()))
        self.traces.note(os.getpid())
        left = kill_all(self.tag, below=os.getpid(), meanwhile=self.reap)
        self.log_limit.keep()
        self.log_times.write(last=True)
        self.look()
        for pid, memory in still_held(own, GPU_TIMEOUT).items():
            amount = "GPU memory" if memory is None else "%d MiB of GPU memory" % memory
            text = "%s still held by process %d, %g s after its end" % (amount, pid, GPU_TIMEOUT)
            self.events.tell("note", text=text + self.whose(pid))
        self.traces.remove()
        self.directory.remove(JOB, INPUT, INPUT_END)
        self.directory.remove_stacks()
        self.remove_enter()
        publish(self.directory, self.job["ranks"])
        # Orphans fall to this agent, but not those of an earlier one that was killed.
        found = set(strays(self.directory.home)) - set(left) if self.directory.others() else ()
        self.events.tell("end", left=len(left), processes=told(left), strays=told(found))
        self.events.close()

    def remove_enter(self):
        """What DeepSpeed's launcher was to start here has served. The controller would have it removed, if it
        ever comes back; what another attempt has put there stays."""
        path = self.job["enter"]
        if self.engine.process is not None and self.enter is not None and stamp_of(path) == self.enter:
            shutil.rmtree(os.path.dirname(path), ignore_errors=True)

    def whose(self, pid):
        ranks = [rank for rank, report in self.ranks.started.items() if report["pid"] == pid]
        return " (rank %d)" % ranks[0] if ranks else ""


def stamp_of(path):
    """What tells the file that is there from one that another attempt puts in its place; None without one."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def main(arguments):
    env = json.load(sys.stdin)
    return Agent(arguments[0], env).main()
