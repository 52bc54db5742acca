"""Where a stack is: whose line it is, what it called there, and whether it waits for other ranks. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from clusterctl.messages.evidence import Frame, ThreadStack

Wait = Literal["", "collective", "point-to-point", "rendezvous", "lock file"]
Doing = Literal[
    "",
    "saving",
    "loading",
    "data",
    "workers",
    "compiling",
    "lock",
    "network",
    "subprocess",
    "input",
    "pool",
]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """``own`` is the innermost frame of the user's own code, ``inner`` the innermost of all; None where
    there is none. ``waits``: it is inside ``operation``, which other ranks must enter, or leave. ``call``
    says what it called, where that has a name. ``doing`` is "workers" in a data loader that waits for its
    processes. ``exiting``: the script is through, what runs are exit handlers, or nothing but its threads."""

    own: Frame | None = None
    inner: Frame | None = None
    waits: Wait = ""
    operation: str = ""
    doing: Doing = ""
    call: str = ""
    exiting: bool = False


_PACKAGES = r"(site|dist)-packages/"
_SCRIPT = ("<module>", "_run_module_as_main")
"""The outermost function of a script that runs."""
_MOST_FRAMES = 100
"""A look has no more of a stack."""
_LIBRARY = re.compile(rf"/lib(64)?/python\d[\d.]*/({_PACKAGES})?|/{_PACKAGES}|^(?=<)|^$")
_WRITES = re.compile(r"save|checkpoint|dump|export|write|flush|sync|close", re.IGNORECASE)
_C10D = "torch/distributed/distributed_c10d.py"
_COLLECTIVE = re.compile(
    r"_?(all_reduce|all_gather|all_to_all|reduce_scatter|reduce|broadcast|gather|scatter|barrier"
    r"|monitored_barrier)(_\w+)?"
)
_POINT_TO_POINT = {
    "send",
    "recv",
    "isend",
    "irecv",
    "batch_isend_irecv",
    "send_object_list",
    "recv_object_list",
}
_LOCK_FILES = {
    "torch/utils/file_baton.py": "the lock file of a torch extension",
    "/filelock/": "a lock file (filelock)",
}
_RENDEZVOUS = {"init_process_group", "new_group", "new_subgroups", "split_group", "_new_group_with_tag"}

# What a frame of a library means: a part of its file, its function ("" for any), and words for it.
_CALLS: tuple[tuple[str, str, Doing, str], ...] = (
    ("torch/utils/data/dataloader.py", "", "data", "DataLoader.__next__"),
    ("torch/utils/cpp_extension.py", "", "compiling", "torch.utils.cpp_extension"),
    ("torch/_dynamo/", "", "compiling", "torch.compile"),
    ("torch/_inductor/", "", "compiling", "torch.compile"),
    ("/triton/", "", "compiling", "triton"),
    ("torch/serialization.py", "save", "saving", "torch.save"),
    ("torch/serialization.py", "load", "loading", "torch.load"),
    ("torch/distributed/checkpoint/", "", "saving", "torch.distributed.checkpoint"),
    ("safetensors/", "", "loading", "safetensors"),
    ("torch/cuda/__init__.py", "synchronize", "", "torch.cuda.synchronize"),
    ("torch/autograd/graph.py", "_engine_run_backward", "", "backward"),
    ("/requests/", "", "network", "a network request"),
    ("/urllib3/", "", "network", "a network request"),
    ("/httpx/", "", "network", "a network request"),
    ("/urllib/request.py", "", "network", "a network request"),
    ("/http/client.py", "", "network", "a network request"),
    ("/ssl.py", "", "network", "a network connection"),
    ("/socket.py", "", "network", "a network connection"),
    ("/subprocess.py", "", "subprocess", "subprocess"),
    ("torch/multiprocessing/spawn.py", "join", "subprocess", "torch.multiprocessing.spawn"),
    ("/multiprocessing/process.py", "join", "subprocess", "Process.join"),
    ("/concurrent/futures/_base.py", "result", "lock", "Future.result"),
    ("/multiprocessing/pool.py", "", "pool", "multiprocessing.Pool"),
    ("/multiprocessing/queues.py", "get", "pool", "multiprocessing.Queue.get"),
    ("/multiprocessing/synchronize.py", "", "lock", "a lock"),
    ("/queue.py", "get", "lock", "Queue.get"),
    ("/threading.py", "join", "lock", "Thread.join"),
    ("/threading.py", "_shutdown", "lock", "the exit of Python"),
    ("/threading.py", "wait", "lock", "a condition of threading"),
    ("/asyncio/runners.py", "", "", "asyncio.run"),
    ("/bdb.py", "", "input", "the debugger"),
    ("/pdb.py", "", "input", "the debugger"),
    ("<frozen importlib._bootstrap>", "", "", "an import"),
)


def place(threads: Sequence[ThreadStack]) -> Place:
    """Where a rank is. A backward pass runs hooks in threads of its own, which may be those that wait."""
    main = main_thread(threads)
    if main is None:
        return Place()
    found = of_frames(main.frames)
    if not found.waits and found.call == "backward":
        others = (of_frames(thread.frames) for thread in threads if thread is not main)
        waiting = next((other for other in others if other.waits), None)
        if waiting is not None:
            return msgspec.structs.replace(waiting, own=found.own or waiting.own)
    return found


def main_thread(threads: Sequence[ThreadStack]) -> ThreadStack | None:
    """The thread that runs the script; the first one where nobody says which."""
    told = [thread for thread in threads if thread.frames]
    return next((thread for thread in told if thread.main), told[0] if told else None)


def saves(threads: Iterable[ThreadStack]) -> bool:
    """Whether any thread writes something, as far as the names of functions tell."""
    return any(_WRITES.search(frame.function) for thread in threads for frame in thread.frames)


def writes_behind(threads: Sequence[ThreadStack]) -> bool:
    """Whether a thread writes a checkpoint behind the script's back."""
    main = main_thread(threads)
    return any(of_frames(each.frames).doing == "saving" for each in threads if each is not main)


def of_frames(frames: Sequence[Frame]) -> Place:
    """Where one thread is."""
    if not frames:
        return Place()
    depth = next((index for index, frame in enumerate(frames) if not is_library(frame.file)), len(frames))
    waits, operation = _waits(frames)
    doing, call = _calls(frames[:depth])
    if doing == "data" and any(frame.function == "_try_get_data" for frame in frames[:depth]):
        doing = "workers"
    own = frames[depth] if depth < len(frames) else None
    return Place(
        own=own,
        inner=frames[0],
        waits=waits,
        operation=operation,
        doing=doing,
        call=call,
        exiting=len(frames) < _MOST_FRAMES and frames[-1].function not in _SCRIPT,
    )


def is_library(file: str) -> bool:
    """Whether a file belongs to an installed package or to Python, and not to the user."""
    return bool(_LIBRARY.search(file))


def package_path(file: str) -> str:
    """A file of a package as it is imported: ``torch/serialization.py``."""
    found = list(_LIBRARY.finditer(file))
    return file[found[-1].end() :] if found and found[-1].end() else file


def _waits(frames: Sequence[Frame]) -> tuple[Wait, str]:
    """The outermost function of torch.distributed is the one that the user knows."""
    for frame in reversed(frames):
        name = frame.function
        if "torch/distributed/rendezvous.py" in frame.file:
            return "rendezvous", "init_process_group"
        if "torch/distributed/_functional_collectives.py" in frame.file:
            return "collective", name
        for part, words in _LOCK_FILES.items():
            if part in frame.file:
                return "lock file", words
        if _C10D not in frame.file:
            continue
        if name in _RENDEZVOUS:
            return "rendezvous", name
        if name in _POINT_TO_POINT:
            return "point-to-point", name
        if _COLLECTIVE.fullmatch(name):
            return "collective", name
    return "", ""


def _calls(frames: Sequence[Frame]) -> tuple[Doing, str]:
    """What the outermost of these library frames is known for."""
    for frame in reversed(frames):
        for part, function, doing, words in _CALLS:
            if part in frame.file and function in ("", frame.function):
                return doing, f"{words}.{frame.function}" if words == "subprocess" else words
    return "", ""
