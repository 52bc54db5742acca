"""Asks libnccl which address it takes, in a process of its own: it may crash, or hang, or never end.

It arrives on the stdin of the interpreter that will train, under the variables of the run. It needs neither
a GPU nor torch: it finds the libnccl that torch would load, and tells in one JSON line what that says. From
then on it stands still with the port open, where a kernel answers for it: it never reads what peers send.
"""

import ctypes
import importlib.util
import json
import os
import re
import signal
import socket
import struct
import sys

SONAME = "libnccl.so.2"
UNIQUE_ID = 128
MAGIC = 8
LOADER_TIMEOUT = 20


def main():
    """What libnccl says; ``missing`` is why there is nothing to say."""
    if len(os.environ.get("NCCL_COMM_ID", "")) > 1:
        return {"missing": "NCCL_COMM_ID names where ranks meet: libnccl chooses nothing itself"}
    path, why = find(sys.argv[1] if len(sys.argv) > 1 else "")
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        absent = "No such file" in str(error)
        return {"missing": why or str(error)} if absent else {"unknown": "libnccl does not load: %s" % error}
    found = {"library": loaded(), "version": version(library)}
    unique = ctypes.create_string_buffer(UNIQUE_ID)
    code = library.ncclGetUniqueId(unique)
    if code != 0:
        return dict(found, refused=words(library, code))
    address, port, index = address_in(unique.raw)
    if not address:
        return dict(found, refused="it names no address that is one")
    return dict(found, address=address, port=port, index=index)


def find(known):
    """(path or name to load, why there may be none). ``known`` is what importing torch has loaded, if it was
    imported; what LD_PRELOAD brings comes before all others for torch, too."""
    if known:
        return known, ""
    preloaded = re.split(r"[:\s]+", os.environ.get("LD_PRELOAD", ""))
    if any("libnccl" in os.path.basename(each) for each in preloaded):
        return SONAME, ""
    for torch in places("torch"):
        found = by_loader(torch + "/lib/libtorch_cuda.so")
        if found:
            return found, ""
    for nvidia in places("nvidia"):
        found = nvidia + "/nccl/lib/" + SONAME
        if os.path.exists(found):
            return found, ""
    return (
        SONAME,
        "no libnccl beside this Python's packages, and none where the system looks for libraries",
    )


def places(package):
    """The folders of a package, of which nothing is imported."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    return list(spec.submodule_search_locations or ()) if spec else []


def by_loader(library):
    """The libnccl with which the system's own loader would load ``library``; "" where it would load none."""
    if not os.path.exists(library):
        return ""
    import subprocess  # here: it costs as much as the rest of this file

    with open("/proc/self/maps") as maps:
        loaders = re.findall(r"(/\S*/ld-\S+)", maps.read())
    if not loaders:
        return ""
    try:
        told = subprocess.run(
            [loaders[0], "--list", library],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LOADER_TIMEOUT,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(r"libnccl\.so\S* => (/\S+)", told.stdout.decode("utf-8", "replace"))
    return match.group(1) if match else ""


def loaded():
    """The path of the libnccl in this process, links resolved."""
    with open("/proc/self/maps") as maps:
        paths = re.findall(r"(/\S*libnccl\S*)", maps.read())
    return paths[0] if paths else ""


def version(library):
    number = ctypes.c_int()
    if library.ncclGetVersion(ctypes.byref(number)) != 0:
        return ""
    value = number.value
    major = 10000 if value >= 10000 else 1000
    return "%d.%d.%d" % (value // major, value % major // 100, value % 100)


def words(library, code):
    """What libnccl says went wrong, in its own words as far as it has any."""
    said = []
    for name, argument in (("ncclGetErrorString", code), ("ncclGetLastError", None)):
        function = getattr(library, name, None)
        if function is not None:
            function.restype = ctypes.c_char_p
            text = (function(argument) or b"").decode("utf-8", "replace")
            said.append(text.partition(" (run with")[0].partition(" - please")[0].strip())
    return ": ".join(filter(None, said)) or "error %d" % code


def address_in(unique):
    """(address, port, interface index or 0) in a ncclUniqueId: 8 bytes, then a sockaddr; "" for neither
    family."""
    (family,) = struct.unpack_from("=H", unique, MAGIC)
    (port,) = struct.unpack_from("!H", unique, MAGIC + 2)
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, unique[MAGIC + 4 : MAGIC + 8]), port, 0
    if family == socket.AF_INET6:
        (scope,) = struct.unpack_from("=I", unique, MAGIC + 24)
        return socket.inet_ntop(socket.AF_INET6, unique[MAGIC + 8 : MAGIC + 24]), port, scope
    return "", 0, 0


def end_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    end_with_parent()
    print("\n" + json.dumps({"nccl": main()}), flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
