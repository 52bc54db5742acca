"""The relay: lives in the SSH session and only forwards. Orders in; events, log bytes and heartbeats out.

It ends when its input ends, when the controller has been silent for ``SILENCE`` seconds, or when another
relay has taken over; the agent goes on without it. Only an agent that does nothing any more is replaced.
"""

from __future__ import annotations

import base64
import contextlib
import os
import queue
import signal
import socket
import sys
import threading
import time
from typing import Any

from ..observe.observation import Observation
from ..shared import compiled
from ..shared.processes import identity, is_running, part_of, send, tag_of
from ..shared.watch import CLOSED, CREATED, MODIFIED, MOVED_HERE, Watch
from ..shared.wire import emit, messages, sendable
from . import checkpoints
from .agent_process import AgentProcess
from .directory import INPUT, INPUT_END, JOB, LEASE, RELAY, STOP, NodeDirectory, boottime, no_space
from .forwarding import Forwarder
from .installation import install, uninstall, working_directory
from .ranks import Ranks
from .snapshot import Snapshots, holds
from .strays import strays, told

# Between two looks at what has grown; a rank that prints without end is not sent letter by letter.
PAUSE = 0.05
# All relays beat together: from when the controller has spoken, to all of them at once. So it is woken for
# many hosts at a time, and what nobody waits for comes along with a beat.
HEARTBEAT = 1.0
IN_STEP = 0.1
SILENCE = 90.0
PROBE_TIMEOUT = 4.0
REASON = 300


class Relay:
    def __init__(self, request, files):
        self.files = files
        home = os.path.join(os.path.expanduser("~"), ".clusterctl", "node")
        part = part_of(request["node_rank"], request["attempt"])
        self.directory = NodeDirectory(os.path.join(home, request["run"], part))
        self.lease = request["lease"]
        self.agent = AgentProcess(self.directory, tag_of(request["run"], part))
        self.forwarder = Forwarder(self.directory, request["offsets"])
        self.snapshots = Snapshots(os.path.join(home, "snapshots"))
        self.observation = Observation(self.directory)
        self.orders: queue.Queue[dict[str, Any]] = queue.Queue()
        self.watch = Watch(LEASE)
        self.heard = boottime()
        self.next_beat = 0.0
        self.following = False
        self.complete = False
        self.level = False

    def main(self):
        signal.setitimer(signal.ITIMER_REAL, 0.0)  # what waited for us here had a limit
        self.watch.add_descriptor(self.listen())
        busy = False
        while True:
            changed = self.watch.wait(0.0 if busy else self.next_beat - boottime())
            self.obey()
            busy = self.follow_on() if self.following else False
            if self.pulse() and (boottime() - self.heard > SILENCE or self.superseded()):
                return
            if self.following and changed and not busy:
                time.sleep(PAUSE)

    # Orders

    def listen(self):
        """In a thread of its own: neither a slow reader nor a long order may cost the run its lease.

        Returns a descriptor that says when an order has come.
        """
        heard, speak = os.pipe()
        threading.Thread(target=self.read_orders, args=(speak,), daemon=True).start()
        return heard

    def read_orders(self, speak):
        with contextlib.suppress(ValueError):  # half a line: the link ended within an order
            for order in messages():
                self.heard = boottime()
                if self.following:
                    with contextlib.suppress(OSError):  # the agent ends by itself when its lease runs out
                        self.directory.overwrite(LEASE, self.lease_from_now())
                self.orders.put(order)
                os.write(speak, b".")
        self.orders.put({"do": "leave"})
        os.write(speak, b".")

    def obey(self):
        """Do what was ordered."""
        while not self.orders.empty():
            order = self.orders.get()
            if order["do"] == "leave":
                self.snapshots.give_up()
                sys.exit(0)
            try:
                getattr(self, "do_" + order["do"])(order)
            except OSError as error:
                said = error.strerror or str(error)
                said += ": %s" % error.filename if error.filename else ""
                reason = no_space(error, self.directory.root) or said
                emit({"is": "failed", "what": order["do"], "reason": sendable(reason)})

    def lease_from_now(self):
        return {"until": round(boottime() + self.lease, 3)}

    def do_beat(self, order):
        if self.next_beat - boottime() < HEARTBEAT - IN_STEP:
            self.next_beat = 0.0

    def do_check(self, order):
        """Is this code here already: at its own path, or as a snapshot?"""
        in_place = order["in_place"] and holds(os.path.expanduser(order["root"]), order["manifest"])
        emit({"is": "checked", "in_place": in_place, "snapshot": self.snapshots.ready(order["digest"])})

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
        job = order["job"]
        self.end_other_attempts(job["run"])
        env = install(self.directory, job, self.files, self.snapshots, self.lease_from_now())
        self.agent.start(env)
        self.follow()
        emit({"is": "started", "cwd": sendable(job["cwd"]), "run_dir": sendable(self.directory.root)})
        with contextlib.suppress(OSError):  # untidiness fails no run
            self.snapshots.prune()
        compiled.keep()

    def end_other_attempts(self, run):
        """What lives of one, on a host that was given up for lost, must not work beside this one."""
        for directory in self.directory.others():
            agent = AgentProcess(directory, tag_of(run, directory.part))
            agent.attach()
            directory.remove(LEASE)  # on a shared home: whoever still works in it elsewhere ends, too
            left = agent.replace(self.pulse)
            if left:
                raise OSError("processes of %s cannot be ended: %s" % (directory.part, left))

    def do_attach(self, order):
        if not os.path.isdir(self.directory.root):
            emit({"is": "absent", "reason": ""})
            return
        rebooted = self.agent.attach()
        self.forwarder.look()
        if rebooted and not self.forwarder.has_end():
            emit({"is": "absent", "reason": rebooted})
            return
        with contextlib.suppress(OSError):
            self.directory.overwrite(LEASE, self.lease_from_now())
        stop = self.directory.read(STOP)
        if stop is not None:
            self.agent.expect_stop(stop["grace"])
        self.follow()

    def follow(self):
        self.following = True
        self.level = False
        with contextlib.suppress(OSError):  # on a full disk: listening and stopping must work all the same
            self.end_earlier(self.directory.read(RELAY))
            self.directory.write(RELAY, identity(os.getpid()))
        self.watch.add(self.directory.root, MODIFIED | CLOSED | MOVED_HERE)
        self.watch.add(self.directory.path("logs"), MODIFIED | CREATED)

    def end_earlier(self, relay):
        """The relay of a broken session ends by itself when it sees another; one that stands still cannot."""
        if relay is not None and relay["pid"] != os.getpid() and is_running(relay["pid"], relay["started"]):
            send(relay["pid"], signal.SIGKILL)

    def do_stop(self, order):
        if not os.path.isdir(self.directory.root):
            return
        self.agent.expect_stop(order["grace"])
        try:
            self.directory.overwrite(STOP, {"grace": order["grace"], "reason": order["reason"][:REASON]})
        except OSError:
            if not self.agent.told(signal.SIGTERM):
                raise

    def do_signal(self, order):
        job = self.directory.read(JOB)
        if job is not None:
            ranks = Ranks(self.directory, job["ranks"])
            ranks.look()
            ranks.hand_on(order["number"])

    def do_input(self, order):
        """For rank 0, whose waiter hands it on from the file."""
        data = base64.b64decode(order.get("data", ""))
        name = INPUT if data else INPUT_END
        flags = os.O_WRONLY | os.O_APPEND | (0 if data else os.O_CREAT)
        with os.fdopen(os.open(self.directory.path(name), flags, 0o600), "wb") as stream:
            stream.write(data)

    def do_ack(self, order):
        self.forwarder.window.acknowledge(order["received"])

    def do_checkpoints(self, order):
        cwd = working_directory(self.directory, order["cwd"], order["subdirectory"])
        path = os.path.join(cwd, os.path.expanduser(order["directory"]))
        emit(sendable(dict(checkpoints.look(path), **{"is": "checkpoints", "directory": path})))

    def do_latest(self, order):
        checkpoints.place_latest(order["directory"], order["tag"])
        emit({"is": "placed"})

    def do_probe(self, order):
        """Does another host still answer over the training network? Any answer, even a reset, is life."""

        def probe():
            alive = answers(order["address"], order["ports"])
            emit({"is": "probed", "node_rank": order["node_rank"], "alive": alive})

        threading.Thread(target=probe, daemon=True).start()

    def do_watch(self, order):
        self.observation.order(order)

    def do_look(self, order):
        self.observation.order(order)

    def do_forget(self, order):
        self.following = False
        self.observation.end()
        self.forwarder.close()
        uninstall(self.directory, order["enter"], self.snapshots, order.get("last", True))
        emit({"is": "forgotten"})

    # Following

    def follow_on(self):
        """Forward, and replace an agent that does nothing any more. True when there is more to forward."""
        self.forwarder.look()
        busy = self.forwarder.forward(samples=self.is_due())
        if not busy and not self.level:
            self.level = True
            emit({"is": "level"})
        if self.complete or busy:
            return busy
        if self.forwarder.ended:
            self.finish()
        elif self.agent.is_stuck() or not self.agent.is_alive():
            self.forwarder.forward()  # it may have ended as it should since
            if not self.forwarder.ended:
                left = self.agent.replace(self.pulse)
                found = told(set(strays(self.directory.home, meanwhile=self.pulse)) - set(left))
                emit({"is": "agent-gone", "left": len(left), "strays": found})
                self.forwarder.ended = True
        return busy

    def finish(self):
        """Once all has been forwarded: say what the controller must have, to the last byte."""
        self.forwarder.look()
        self.forwarder.forward()  # what was to come along with a beat
        if self.forwarder.is_level():
            self.complete = True
            emit({"is": "complete", "logs": self.forwarder.fingerprints(self.pulse)})

    def pulse(self):
        """Say once a second that this side lives. True when it was time."""
        due = self.is_due()
        if due:
            self.next_beat = boottime() + HEARTBEAT
            emit({"is": "beat", "time": time.time()})
        return due

    def is_due(self):
        return boottime() >= self.next_beat

    def superseded(self):
        owner = self.directory.read(RELAY) if self.following else None
        return owner is not None and owner["pid"] != os.getpid()


def answers(address, ports):
    """Whether a host says anything at all on one of ``ports``, all asked at once: a refusal is an answer."""
    heard: queue.SimpleQueue[bool] = queue.SimpleQueue()
    for port in ports:
        threading.Thread(target=lambda port=port: heard.put(answers_on(address, port)), daemon=True).start()
    return any(heard.get() for _ in ports)


def answers_on(address, port):
    try:
        socket.create_connection((address, port), PROBE_TIMEOUT).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


def main(request, files):
    Relay(request, files).main()
    # Not by way of the interpreter's end, which the thread that reads orders would turn into an abort.
    os._exit(0)
