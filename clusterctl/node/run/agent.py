"""The agent: owns one node's part of a run. The engine is its child; what it knows, it writes to files.

It runs detached from any SSH session, and speaks through its run directory only: it appends to
``events.jsonl``, reads ``lease`` and ``stop.json``. A text editor can play its other side. Whatever happens,
it ends its own node: on the first failure of a rank, on a stop, and when the lease runs out.
"""

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

from ..shared.processes import boot_id, command_of, is_alive, oom_kills, run_processes, start_ticks, tag_of

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
TICK = 0.05
SWEEP_SECONDS = 5.0
ENTER_SECONDS = 120.0
ENGINE_PATIENCE = 10.0  # engines leave 30 s between TERM and KILL
WAITER_WORD = "clusterctl-rank-waiter"


def boottime():
    """Seconds since boot, sleep included: no clock change moves it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_json(path):
    """The file's value, or None while it does not exist or is half written."""
    try:
        with open(path) as stream:
            return json.load(stream)
    except (OSError, ValueError):
        return None


def host_mark():
    """What tells this host from others that share one /tmp: those made of namespaces by the network's, and
    those of a sandbox without namespaces by the loopback address that sshd was reached at."""
    network = str(os.stat("/proc/self/ns/net").st_ino)
    reached_at = os.environ.get("SSH_CONNECTION", "").split()[2:3]
    return "-".join([network] + [each for each in reached_at if each.startswith("127.")])


class Agent:
    def __init__(self, run_dir):
        self.run_dir = run_dir
        self.job = read_json(os.path.join(run_dir, "job.json"))
        self.tag = tag_of(self.job["run"], self.job["node_rank"])
        self.engine = None
        self.engine_code = None
        self.stopped_at = None
        self.kill_at = None
        self.killed_at = None
        self.ended = {}
        self.started = set()
        self.locks = []
        self.enter_deadline = boottime() + ENTER_SECONDS
        self.oom_before = oom_kills()
        self.events = os.open(self.path("events.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def path(self, name):
        return os.path.join(self.run_dir, name)

    def event(self, kind, **fields):
        line = json.dumps(dict(fields, event=kind, time=time.time())) + "\n"
        os.write(self.events, line.encode())

    def main(self):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self.told_to_end)
        pid = os.getpid()
        self.event("agent", pid=pid, started=start_ticks(pid), boot=boot_id())
        try:
            busy = self.take_slots()
            if busy:
                self.event("refused", reason=busy)
            else:
                self.work()
        except Exception as error:  # whatever it is, the controller must not take this end for a success
            self.event("failure", reason="the agent broke: %s: %s" % (type(error).__name__, error))
            raise
        finally:
            left = self.sweep()
            self.note_unreported()
            self.event("end", left=len(left), processes=[[p, command_of(p)] for p in left])

    def told_to_end(self, *_):
        if self.stopped_at is None:
            self.event("failure", reason="the agent was ended by SIGTERM: a reboot, or somebody's kill")
        self.stop(0.0, "agent was told to end")

    def work(self):
        while True:
            now = boottime()
            self.reap()
            self.note_ranks()
            self.obey(now)
            if self.engine is None and self.stopped_at is None:
                self.start_engine(now)
            if self.kill_at is not None and now >= self.kill_at:
                self.kill()
            over = self.engine_code is not None or (self.engine is None and self.stopped_at is not None)
            if over and not self.waiting_for_ranks(now):
                return
            time.sleep(TICK)

    def waiting_for_ranks(self, now):
        """After the engine's end, give rank waiters a moment to report before the sweep."""
        if self.kill_at is None:
            self.kill_at = now + 1.0
        return bool(self.started - set(self.ended)) and now < self.kill_at

    def take_slots(self):
        """Lock this host's slots; the reason when another run holds one, else an empty string."""
        host = host_mark()
        for slot in self.job["slots"]:
            path = "%s/clusterctl-%s-slot-%d.lock" % (self.job["lock_dir"], host, slot)
            try:
                # O_CREAT only where the file is missing: in a sticky /tmp it is refused for another's file.
                create = 0 if os.path.exists(path) else os.O_CREAT
                lock = os.open(path, os.O_RDWR | create | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
                if create:
                    os.fchmod(lock, 0o666)  # whatever the umask: the next user locks it, too
            except PermissionError:
                try:
                    lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                except OSError as error:
                    return "slot %d cannot be locked: %s" % (slot, error)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(lock, 200).decode("utf-8", "replace").strip() or "another run"
                return "slot %d is busy with %s" % (slot, holder)
            try:
                os.ftruncate(lock, 0)
                os.write(lock, ("run %s of %s" % (self.job["run"], self.job["owner"])).encode())
            except OSError:
                self.event("note", text="slot %d: lock file of another user, name not written" % slot)
            self.locks.append(lock)
        return ""

    def start_engine(self, now):
        argv = self.job["engine"]
        if argv is None:
            argv = read_json(self.path("enter.json"))
            if argv is None:
                if now > self.enter_deadline:
                    self.event("failure", reason="deepspeed's launcher never reached this host")
                    self.stop(0.0, "no engine")
                return
            waiter = self.path("code/clusterctl_node/run/rank.py")
            argv = [self.job["python"], *(waiter if part == WAITER_WORD else part for part in argv)]
        log = os.open(self.path("logs/agent.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        parent = os.getpid()

        def tie_to_agent():
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        env = dict(self.job["env"], CLUSTERCTL_RUN=self.tag)
        try:
            self.engine = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.run_dir,  # not the script's: `-m` would import from it
                env=env,
                preexec_fn=tie_to_agent,
                start_new_session=True,
            )
        except OSError as error:
            self.event("failure", reason="cannot start %s: %s" % (argv[0], error))
            self.stop(0.0, "no engine")
            return
        finally:
            os.close(log)
        self.event("engine", pid=self.engine.pid)

    def reap(self):
        """Collect the engine and every orphan that fell to the subreaper."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.engine is not None and pid == self.engine.pid:
                killed = os.WIFSIGNALED(status)
                self.engine_code = 128 + os.WTERMSIG(status) if killed else os.WEXITSTATUS(status)
                self.engine.returncode = self.engine_code
                told = self.stopped_at is not None
                self.note_ranks()
                self.event("engine-exit", code=self.engine_code, told=told)
                if self.engine_code and self.stopped_at is None:
                    self.stop(self.job["failure_grace"], "the engine failed")

    def note_ranks(self):
        """Starts, then ends in the order they happened."""
        for rank in self.job["ranks"]:
            if rank not in self.started:
                start = read_json(self.path("start-%d.json" % rank))
                if start is not None:
                    self.started.add(rank)
                    self.event("rank-start", rank=rank, local_rank=start["local_rank"], pid=start["pid"])
        for result in sorted(self.new_ends(), key=lambda result: result["ended"]):
            self.note_exit(result["rank"], result)

    def new_ends(self):
        """What waiters have reported since the last look.

        An engine ends its other workers only after the first has reported. So whoever finds a report looks
        again, until there is nothing new: the reports that led to it are there by then.
        """
        found = {}
        while True:
            before = len(found)
            for rank in self.started - set(self.ended) - set(found):
                result = read_json(self.path("exit-%d.json" % rank))
                if result is not None:
                    found[rank] = result
            if len(found) == before:
                break
        if (found or self.engine_code is not None) and self.killed_at is None:
            for rank in self.started - set(self.ended) - set(found):
                if not is_alive(read_json(self.path("start-%d.json" % rank))["waiter"]):
                    found[rank] = self.unreported(rank)
        return found.values()

    def unreported(self, rank):
        """The end of a rank whose waiter was killed, and with it the rank."""
        start = read_json(self.path("start-%d.json" % rank))
        killed = {"code": 128 + signal.SIGKILL, "signal": int(signal.SIGKILL), "peak_memory": 0}
        killed.update(rank=rank, started=start["time"], asked=None, ended=time.time())
        return read_json(self.path("exit-%d.json" % rank)) or killed

    def note_unreported(self):
        """After the sweep: waiters that were killed cannot tell how their ranks ended; the agent can."""
        self.note_ranks()
        for rank in sorted(self.started - set(self.ended)):
            self.note_exit(rank, self.unreported(rank))

    def note_exit(self, rank, result):
        error = read_json(self.path("error-%d.json" % rank)) if result["code"] else None
        told = self.was_told(result, error)
        self.ended[rank] = result
        out_of_memory = result["signal"] == signal.SIGKILL and oom_kills() != self.oom_before
        self.event(
            "rank-exit",
            told=told,
            error=error,
            oom="killed by the kernel: the host ran out of memory" if out_of_memory else "",
            **{key: result[key] for key in ("rank", "code", "signal", "started", "ended", "peak_memory")},
        )
        if result["code"]:
            self.stop(self.job["failure_grace"], "rank %d failed" % rank)

    def was_told(self, result, error):
        """Whether what failed this rank came after it was asked to end, by us or by its engine.

        What it raised before is its own, whatever signal ended it then and however long that took.
        """
        asked = min((t for t in (self.stopped_at, result["asked"]) if t is not None), default=None)
        if error is not None:
            return asked is not None and error["time"] > asked
        if result["signal"] == signal.SIGKILL:
            engine_killed = self.engine_code is not None and self.engine_code > 128
            by_us = self.killed_at is not None and result["ended"] >= self.killed_at
            by_engine = asked is not None and result["ended"] > asked + ENGINE_PATIENCE
            return engine_killed or by_us or by_engine
        # DeepSpeed signals the rank before its waiter: the waiter may report before it was asked itself.
        failed_before = any(each["code"] for each in self.ended.values())
        if result["signal"] == signal.SIGTERM and failed_before:
            return True
        return asked is not None and result["ended"] > asked

    def obey(self, now):
        order = read_json(self.path("stop.json"))
        if order is not None:
            self.stop(order["grace"], order["reason"])
        lease = read_json(self.path("lease"))
        if lease is not None and now > lease["until"] and self.stopped_at is None:
            self.event("lease-over")
            self.stop(self.job["failure_grace"], "no word from the controller")

    def stop(self, grace, reason):
        """TERM the engine, which hands it to its workers once; KILL whatever is left after ``grace``.

        A second order may only shorten the wait.
        """
        kill_at = boottime() + grace
        if self.stopped_at is None:
            self.stopped_at = time.time()
            self.event("stopping", reason=reason, grace=grace)
            if self.engine is not None and self.engine_code is None:
                self.engine.send_signal(signal.SIGTERM)
            self.kill_at = kill_at
        elif self.kill_at is None or kill_at < self.kill_at:
            self.kill_at = kill_at

    def kill(self):
        if self.killed_at is None:
            self.killed_at = time.time()
        for pid in run_processes(self.tag, below=os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def sweep(self):
        """KILL until nothing of the run is left or it cannot be killed; what is left, by pid."""
        until = boottime() + SWEEP_SECONDS
        while True:
            self.reap()
            left = run_processes(self.tag, below=os.getpid())
            if not left or boottime() > until:
                return left
            self.kill()
            time.sleep(TICK)


if __name__ == "__main__":
    sys.exit(Agent(sys.argv[1]).main())
