"""The relay: lives in the SSH session and only forwards. Orders in; events, log bytes and heartbeats out.

It reads the agent's files by offset, so a new relay on a new connection goes on where the old one stopped.
It ends when its input ends, when the controller has been silent for ``SILENCE`` seconds, or when another
relay has taken over; the agent goes on without it.
"""

import base64
import contextlib
import hashlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from ..shared.processes import is_alive, run_processes, tag_of
from ..shared.wire import emit, messages, sendable
from .agent import SWEEP_SECONDS, boottime, read_json
from .rank import write_whole
from .snapshot import ORIGIN, Snapshots, holds

TICK = 0.05
SILENCE = 90.0
PIECE = 192 * 1024


class Relay:
    def __init__(self, request, files):
        self.files = files
        self.home = os.path.join(os.path.expanduser("~"), ".clusterctl", "node")
        self.run = request["run"]
        self.run_dir = os.path.join(self.home, self.run, str(request["node_rank"]))
        self.tag = tag_of(self.run, request["node_rank"])
        self.offsets = dict(request["offsets"])
        self.lease = request["lease"]
        self.orders = queue.Queue()
        self.heard = boottime()
        self.beat = 0.0
        self.following = False
        self.complete = False
        self.level = False
        self.snapshots = Snapshots(os.path.join(self.home, "snapshots"))
        self.agent = None

    def path(self, name):
        return os.path.join(self.run_dir, name)

    def main(self):
        signal.setitimer(signal.ITIMER_REAL, 0.0)  # what waited for us here had a limit
        threading.Thread(target=self.read_orders, daemon=True).start()
        busy = True
        while True:
            busy = self.obey(0.0 if busy else TICK)
            if self.following:
                forwarded = self.forward()
                if not forwarded and not self.level:
                    self.level = True
                    emit({"is": "level"})
                busy = forwarded or busy
            now = boottime()
            if self.pulse(now) and self.following and not self.complete and self.agent_gone():
                self.sweep_for_agent()
            if now - self.heard > SILENCE or self.superseded():
                return 0

    def pulse(self, now):
        """Say once a second that this side lives. True when it was time."""
        due = now - self.beat >= 1.0
        if due:
            self.beat = now
            emit({"is": "beat", "time": time.time()})
        return due

    def read_orders(self):
        """In a thread of its own: neither a slow reader nor a long order may cost the run its lease."""
        with contextlib.suppress(ValueError):
            for order in messages():
                self.heard = boottime()
                if self.following:
                    with contextlib.suppress(OSError):  # the agent ends by itself when its lease runs out
                        self.renew_lease()
                self.orders.put(order)
        self.orders.put({"do": "leave"})

    def obey(self, patience):
        """Do what was ordered, waiting ``patience`` seconds for the first. True when there was anything."""
        busy = False
        while True:
            try:
                order = self.orders.get(timeout=patience) if patience else self.orders.get_nowait()
            except queue.Empty:
                return busy
            busy, patience = True, 0.0
            if order["do"] == "leave":
                self.snapshots.give_up()
                sys.exit(0)
            try:
                getattr(self, "do_" + order["do"])(order)
            except OSError as error:
                emit({"is": "failed", "what": order["do"], "reason": sendable(str(error))})

    def renew_lease(self):
        """In place and always as long: a full disk refuses new files, not this."""
        text = '{"until": %17.3f}' % (boottime() + self.lease)
        lease = os.open(self.path("lease"), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(lease, text.encode(), 0)
        finally:
            os.close(lease)

    def superseded(self):
        owner = read_json(self.path("relay.json")) if self.following else None
        return owner is not None and owner != os.getpid()

    def do_beat(self, order):
        """Nothing more than having been heard."""

    def do_ack(self, order):
        """How much of the logs has arrived there. Nothing waits for it."""

    def do_check(self, order):
        """Is this code here already: at its own path, or as a snapshot?"""
        in_place = order["in_place"] and holds(os.path.expanduser(order["root"]), order["manifest"])
        emit({"is": "checked", "in_place": in_place, "snapshot": self.snapshots.has(order["digest"])})

    def do_archive(self, order):
        try:
            if order.get("begin"):
                self.snapshots.begin(order["digest"])
            elif self.snapshots.incoming is None:
                return  # given up, and said so
            if order.get("data"):
                self.snapshots.piece(order["data"])
            if order.get("end"):
                self.snapshots.finish(order["digest"])
                emit({"is": "unpacked"})
        except OSError:
            self.snapshots.give_up()
            raise

    def do_start(self, order):
        """Lay out the run directory and start the agent in its own session."""
        job = order["job"]
        os.makedirs(self.path("logs"), mode=0o700)
        os.chmod(os.path.dirname(self.run_dir), 0o700)
        code = self.path("code")
        write_code(code, self.files)
        if job["cwd"] is None:
            job["cwd"] = self.path("work")
            write_whole(self.path(ORIGIN), job["digest"])
            self.snapshots.copy(job["digest"], job["cwd"])
        job["cwd"] = os.path.expanduser(job["cwd"])
        if job["subdirectory"]:
            job["cwd"] = os.path.join(job["cwd"], job["subdirectory"])
        job["env"] = self.environment(job)
        job["engine"] = job["engine"] and [part.replace("{run_dir}", self.run_dir) for part in job["engine"]]
        for name, text in job.pop("files").items():
            with open(self.path(name), "w") as stream:
                stream.write(text)
        write_whole(self.path("job.json"), job)
        if job["enter"]:
            self.lay_enter(job["enter"], code)
        self.follow()
        log = os.open(self.path("logs/agent.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.agent = subprocess.Popen(
            [sys.executable, "-S", "-E", "-m", "clusterctl_node.run.agent", self.run_dir],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=code,
            start_new_session=True,
        )
        os.close(log)
        emit({"is": "started", "cwd": sendable(job["cwd"]), "run_dir": sendable(self.run_dir)})
        with contextlib.suppress(OSError):  # untidiness fails no run
            self.snapshots.prune()

    def environment(self, job):
        """The SSH session's own variables, the interpreter's directory first in PATH, then the plan's."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
        for name in job["removed"]:
            env.pop(name, None)
        env.update(job["env"])
        if "PATH" not in job["env"]:
            env["PATH"] = os.path.dirname(job["python"]) + os.pathsep + env.get("PATH", os.defpath)
        return env

    def lay_enter(self, path, code):
        """Where every host has the same path: the file DeepSpeed's launcher starts as if it were python."""
        folder = os.path.dirname(path)
        os.makedirs(folder, 0o700, exist_ok=True)
        if os.lstat(folder).st_uid != os.getuid() or os.path.islink(folder):
            raise OSError("%s belongs to somebody else" % folder)
        words = (code, sys.executable, os.path.dirname(self.run_dir))
        quoted = ["'%s'" % word.replace("'", "'\\''") for word in words]
        text = '#!/bin/sh\ncd %s && exec %s -S -E -m clusterctl_node.run.enter %s "$@"\n' % tuple(quoted)
        partial = "%s.%d" % (path, os.getpid())
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700), "w") as stream:
            stream.write(text)
        os.replace(partial, path)

    def do_attach(self, order):
        if not os.path.isdir(self.run_dir):
            emit({"is": "absent", "reason": ""})
            return
        self.follow()

    def follow(self):
        self.following = True
        self.level = False
        with contextlib.suppress(OSError):  # on a full disk: listening and stopping must work all the same
            write_whole(self.path("relay.json"), os.getpid())
            self.renew_lease()

    def do_stop(self, order):
        if not os.path.isdir(self.run_dir):
            return
        try:
            write_whole(self.path("stop.json"), {"grace": order["grace"], "reason": order["reason"]})
        except OSError:
            pid = self.agent_pid()
            if pid is None or not is_alive(pid):
                raise
            os.kill(pid, signal.SIGTERM)

    def do_probe(self, order):
        """Does another host still answer over the training network? Any answer, even a reset, is life."""

        def probe():
            alive = any(answers(order["address"], port) for port in order["ports"])
            emit({"is": "probed", "node_rank": order["node_rank"], "alive": alive})

        threading.Thread(target=probe, daemon=True).start()

    def agent_gone(self):
        """True when the agent ended without saying so: somebody killed it."""
        alive = is_alive(self.agent_pid()) if self.agent is None else self.agent.poll() is None
        return not alive and not self.agent_ended()

    def agent_pid(self):
        """None where no agent has ever spoken."""
        with contextlib.suppress(OSError, ValueError):
            with open(self.path("events.jsonl")) as stream:
                return json.loads(stream.readline())["pid"]
        return None

    def sweep_for_agent(self):
        """End what bears the run's mark, and say what is left."""
        until = boottime() + SWEEP_SECONDS
        while run_processes(self.tag) and boottime() < until:
            for pid in run_processes(self.tag):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(TICK)
        emit({"is": "agent-gone", "left": len(run_processes(self.tag))})
        self.finish()

    def do_forget(self, order):
        """All is on the controller: keep what the script wrote, and what tells that from its code."""
        self.following = False
        with contextlib.suppress(OSError):  # NFS keeps what somebody still holds open
            self.snapshots.let_go(self.path("work"), self.path(ORIGIN))
        with contextlib.suppress(OSError):
            if order["enter"]:
                shutil.rmtree(os.path.dirname(order["enter"]))
        for name in os.listdir(self.run_dir) if os.path.isdir(self.run_dir) else ():
            if name not in ("work", ORIGIN):
                target = self.path(name)
                shutil.rmtree(target) if os.path.isdir(target) else os.unlink(target)
        for folder in (self.run_dir, os.path.dirname(self.run_dir)):
            with contextlib.suppress(OSError):  # outputs are kept, and other nodes on a shared home
                os.rmdir(folder)
        emit({"is": "forgotten"})

    def forward(self):
        """Send what has grown. True when there may be more at once.

        Events up to now go after the logs up to now: the word of an end comes after the last lines, and a
        rank that never stops printing delays nobody's failure.
        """
        ended = not self.complete and self.agent_ended()
        until = self.events_size()
        busy = False
        for name in sorted(os.listdir(self.path("logs"))):
            busy = self.forward_log(name) or busy
        self.forward_events(until)
        if ended and not busy:
            self.finish()
        return busy

    def finish(self):
        """All has been forwarded: say what the controller must have, to the last byte."""
        names = sorted(os.listdir(self.path("logs")))
        while any(self.forward_log(name) for name in names):
            continue
        self.complete = True
        emit({"is": "complete", "logs": {name: self.fingerprint(name) for name in names}})

    def agent_ended(self):
        with contextlib.suppress(OSError):
            with open(self.path("events.jsonl"), "rb") as stream:
                return b'"event": "end"' in stream.read()[-8192:]
        return False

    def forward_log(self, name):
        with open(self.path("logs/" + name), "rb") as stream:
            offset = self.offsets.get(name, 0)
            stream.seek(offset)
            data = stream.read(PIECE)
        if not data:
            return False
        self.offsets[name] = offset + len(data)
        emit({"is": "log", "name": name, "offset": offset, "data": base64.b64encode(data).decode()})
        return True

    def events_size(self):
        try:
            return os.path.getsize(self.path("events.jsonl"))
        except OSError:
            return 0

    def forward_events(self, until):
        """Whole lines that end before the offset ``until``."""
        offset = self.offsets.get("events.jsonl", 0)
        if until <= offset:
            return
        with open(self.path("events.jsonl"), "rb") as stream:
            stream.seek(offset)
            lines = stream.read(until - offset).rpartition(b"\n")[0]
        for line in lines.splitlines():
            offset += len(line) + 1
            self.offsets["events.jsonl"] = offset
            emit({"is": "event", "offset": offset, "event": sendable(json.loads(line))})

    def fingerprint(self, name):
        found = hashlib.sha256()
        size = 0
        with open(self.path("logs/" + name), "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                found.update(block)
                size += len(block)
                self.pulse(boottime())
        return {"size": size, "sha256": found.hexdigest()}


def answers(address, port):
    """Whether a host says anything at all there: a refusal is an answer."""
    try:
        socket.create_connection((address, port), 3.0).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


def write_code(folder, files):
    """The bundle as packages on disk: ``clusterctl_node``, and ``site`` for what a rank imports first."""
    for name, source in files.items():
        path = "site.sitecustomize" if name == "run.sitecustomize" else "clusterctl_node." + name
        package, _, module = path.rpartition(".")
        package = os.path.join(folder, *package.split("."))
        os.makedirs(package, mode=0o700, exist_ok=True)
        with open(os.path.join(package, module + ".py"), "w") as stream:
            stream.write(source)


def main(request, files):
    return Relay(request, files).main()
