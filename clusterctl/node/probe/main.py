"""Everything one host can tell about itself, in one answer; then it stays to be asked more.

The request comes with the bundle, and facts follow by themselves. Later messages (``do``): ``ping``,
``torch`` (one real import), ``listen`` and ``dial`` (traffic between hosts), ``nccl`` (what libnccl takes)
and ``nccl-held`` (whether it still holds its port), ``join`` and ``leave`` (ranks of a collective of all
hosts), ``receive`` and ``send`` (bandwidth), ``compute`` and ``dcgm`` (idle GPUs), ``next`` (wait for another
bundle). The end of stdin ends everything here, as does a silence of the controller.
"""

import os
import signal
import sys
import threading
import time

from ..e2e import bandwidth, devices
from ..e2e.ranks import Ranks
from ..shared import compiled, wire
from . import activation, gpu, kernel_log, machine, net, python, smi, system

GRACE = 1.0
SECTION_TIMEOUT = 10.0
NEXT_TIMEOUT = 60.0


def main(request, files):
    """Answer until stdin ends, or nothing has come for the timeout; returns only then."""
    end = wire.leave_nothing_behind(request["timeout"])
    environ = dict(os.environ, **dict(request.get("defaults", {}), **request.get("env", {})))
    threading.Thread(target=tell_facts, args=(request, environ), daemon=True).start()
    try:
        converse(files, environ, request["timeout"])
    finally:  # a broken link may end in the middle of a message
        end()


def converse(files, environ, timeout):
    reach, nccl, ranks = None, None, Ranks(files, environ)
    for message in wire.messages():
        signal.setitimer(signal.ITIMER_REAL, timeout)
        what = message["do"]
        if what == "ping":
            wire.emit({"is": "pong", "sent": message["sent"], "time": time.time()})
        elif what == "torch":
            _in_background("torch", ranks.import_torch, message)
        elif what == "listen":
            from ..traffic.listeners import Reach

            reach = Reach(message)
            _in_background("listening", reach.listen)
        elif what == "dial" and reach is not None:
            _in_background("dialled", reach.dial, message)
        elif what == "nccl":
            from ..traffic.nccl import Nccl

            nccl = Nccl(message, files["traffic.nccl_child"])
            nccl.start()
        elif what == "nccl-held":
            wire.emit({"is": "nccl-held", "held": nccl is not None and nccl.holds})
        elif what == "join":
            if reach is not None:
                reach.close()
            ranks.join(message)
        elif what == "receive":
            _in_background("receiving", bandwidth.receive, message)
        elif what == "send":
            _in_background("sent", bandwidth.send, message)
        elif what == "compute":
            _in_background("computed", devices.compute, dict(message, sources=files))
        elif what == "dcgm":
            _in_background("dcgm", devices.dcgm, message)
        elif what == "leave":
            ranks.leave(message["group"])
        elif what == "next":
            ranks.leave()
            if nccl is not None:
                nccl.end()
            begin_anew()


def begin_anew():
    """Become what read this bundle: a bare interpreter that waits for one. Returns when that cannot be.

    The controller sends nothing before it has heard the answer, so nothing is lost in a buffer.
    """
    compiled.keep()
    try:
        os.waitpid(-1, os.WNOHANG)
        return  # something still runs here: this session is to end it
    except ChildProcessError:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, NEXT_TIMEOUT)
    with open("/proc/self/cmdline", "rb") as stream:
        argv = stream.read().split(b"\0")[:-1]
    wire.emit_last({"is": "next"})
    os.execv(sys.executable, argv)


def tell_facts(request, environ):
    began = time.monotonic()
    known, errors = collect(dict(request, **activate(request, environ)), environ)
    known["seconds"] = round(time.monotonic() - began, 4)
    known["errors"] = errors
    wire.emit({"is": "facts", "facts": known})


def activate(request, environ):
    """Run the activation line, if any, before everything else: ``environ`` becomes what a run will have.

    What the user has set for the run stays as it is.
    """
    if not request.get("activate"):
        return {}
    own = request.get("env", {})
    found = activation.activate(request["activate"], environ, request["activation_timeout"])
    found["variables"] = {name: value for name, value in found["variables"].items() if name not in own}
    found["removed"] = [name for name in found["removed"] if name not in own]
    environ.update(found["variables"])
    for name in found["removed"]:
        del environ[name]
    return {"activation": found}


def collect(request, environ):
    """(facts, errors). Sections run side by side, each with a timeout of its own: none can lose another's."""
    own_name = os.uname().nodename
    activated = (request.get("activation") or {}).get("variables", ())
    queries = list(dict.fromkeys([own_name, *request.get("names", ())]))
    sections = {
        "system": (system.system, SECTION_TIMEOUT),
        "settings": (lambda: system.settings(environ, activated), SECTION_TIMEOUT),
        "disks": (lambda: system.filesystems(environ, request.get("workdir", "")), SECTION_TIMEOUT),
        "shared memory": (system.stale_segments, SECTION_TIMEOUT),
        "kernel log": (lambda: kernel_log.kernel_log(environ), 2 * kernel_log.LOG_TIMEOUT),
        "logind": (lambda: machine.logind(environ), machine.LOGIND_TIMEOUT),
        "interfaces": (net.interfaces, SECTION_TIMEOUT),
        "routes": (net.routes, SECTION_TIMEOUT),
        "rdma": (lambda: _rdma(environ), SECTION_TIMEOUT),
        "names": (lambda: net.names(queries), net.NAME_TIMEOUT),
        "gpus": (lambda: gpu.nvidia(environ), 2 * smi.SMI_TIMEOUT),
        "python": (lambda: _python(request, environ), 3 * python.PYTHON_TIMEOUT),
        "workdir": (lambda: system.workdir(request.get("workdir", "")), SECTION_TIMEOUT),
    }
    answers: dict[str, tuple[dict[str, object], str]] = {}
    began = time.monotonic()
    threads = {
        what: threading.Thread(target=_guarded, args=(what, function, answers), daemon=True)
        for what, (function, _) in sections.items()
    }
    for thread in threads.values():
        thread.start()
    known, errors = {"activation": request.get("activation")}, []
    for what, (_, timeout) in sections.items():
        threads[what].join(max(0.0, began + timeout + GRACE - time.monotonic()))
        found, error = answers.get(what, ({}, "no answer within %g s" % timeout))
        known.update(found)
        if error:
            errors.append("%s: %s" % (what, error))
    return known, errors


def _guarded(what, function, answers):
    try:
        answers[what] = (function(), "")
    except Exception as error:  # one broken subsystem of a strange host must not hide the others
        answers[what] = ({}, "%s: %s" % (type(error).__name__, error))


def _in_background(kind, function, *arguments):
    """Answer ``{"is": kind, ...}`` when done; a failure answers with ``error``."""

    def work():
        try:
            answer = function(*arguments)
        except Exception as error:  # whoever waits for this answer must learn why it will not come
            answer = {"error": "%s: %s" % (type(error).__name__, error)}
        wire.emit(dict(answer, **{"is": kind}))

    threading.Thread(target=work, daemon=True).start()


def _rdma(environ):
    """A host without RDMA need not compile what reads it."""
    if not os.path.isdir("/sys/class/infiniband"):
        return {"rdma": [], "verbs_library": None, "verbs_devices": None, "peer_memory": None}
    from . import rdma

    return rdma.rdma(environ)


def _python(request, environ):
    found = python.python(request, environ)
    executable = found["python"]["executable"]
    return dict(found, compilers=python.compilers(executable, environ), probe_python=sys.executable)
