"""Which checkpoints lie in a directory, and which of their files are torn: told by names, sizes and the ends
of files, without torch, and without ever unpickling anything.

Whether a checkpoint is whole, all hosts together decide: each may hold a part of it.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import struct
import zipfile

NEWEST = 8
LATEST = "latest"
RECORD = "complete.json"  # of the workload that clusterctl ships
SHARD = re.compile(r".*(model_states|optim_states)\.pt")
ZIPPED = (".pt", ".pth", ".bin")
NUMBER = re.compile(r"(\d+)(?!.*\d)")
PART = re.compile(rb"__\d+_\d+\.distcp")
MOST_HEADER = 100 << 20
LONGEST_NAME = 255


def look(directory):
    """{"latest": what that file says or None, "found": the newest checkpoints}. Raises OSError, but not where
    there is no such directory yet."""
    if not os.path.isdir(directory):
        return {"latest": None, "found": []}
    names = [name for name in os.listdir(directory) if os.path.isdir(os.path.join(directory, name))]
    steps = sorted((int(found.group(1)), found.string) for found in map(NUMBER.search, names) if found)
    latest = read_latest(directory)
    found = (describe(directory, name, step, latest) for step, name in reversed(steps))
    return {"latest": latest, "found": list(itertools.islice(filter(None, found), NEWEST))}


def read_latest(directory):
    try:
        with open(os.path.join(directory, LATEST), errors="replace") as stream:
            return stream.read(LONGEST_NAME + 1).strip()
    except OSError:
        return None


def place_latest(directory, tag):
    """Have ``latest`` name this checkpoint: whoever reads it gets all of the new name or of the old."""
    path = os.path.join(directory, LATEST)
    partial = "%s.%s.%d" % (path, os.uname().nodename, os.getpid())
    try:
        with open(partial, "w") as stream:
            stream.write(tag)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


def describe(directory, name, step, latest):
    """One checkpoint as this host sees it; None for a directory that is none."""
    path = os.path.join(directory, name)
    entries = sorted(os.listdir(path))
    nested = sorted(each for each in entries if re.fullmatch(r"global_step\d+", each))
    message = {"tag": name, "step": step, "world_size": None, "expected": [], "latest": None}
    if ".metadata" in entries or any(each.endswith(".distcp") for each in entries):
        message["kind"] = "dcp"
        names = [each for each in entries if each == ".metadata" or each.endswith(".distcp")]
        message["expected"] = parts_of(os.path.join(path, ".metadata"))
    elif re.fullmatch(r"checkpoint-\d+", name):
        message["kind"] = "trainer"
        names = [each for each in entries if each.endswith((*ZIPPED, ".safetensors", ".json"))]
        names += [os.path.join(each, shard) for each in nested for shard in shards(os.path.join(path, each))]
        message["expected"] = indexed(path, entries)
        message["latest"] = read_latest(path)
    elif RECORD in entries or shards(path):
        own = RECORD in entries or (latest is None and re.fullmatch(r"step-\d{6,}", name))
        message["kind"] = "shipped" if own else "deepspeed"
        names = shards(path) + [each for each in entries if each == RECORD]
        message["world_size"] = recorded_world(os.path.join(path, RECORD))
    else:
        return None
    message["files"] = [[each, problem_of(os.path.join(path, each))] for each in names]
    return message


def shards(path):
    return [name for name in sorted(os.listdir(path)) if SHARD.fullmatch(name)] if os.path.isdir(path) else []


def recorded_world(path):
    record = json_in(path)
    world = record.get("world_size") if isinstance(record, dict) else None
    return world if isinstance(world, int) else None


def indexed(path, entries):
    """The files of weights that an index names."""
    found: set[str] = set()
    for name in entries:
        if name.endswith(".index.json"):
            index = json_in(os.path.join(path, name))
            weights = index.get("weight_map") if isinstance(index, dict) else None
            if isinstance(weights, dict):
                found.update(each for each in weights.values() if isinstance(each, str))
    return sorted(found)


def parts_of(metadata):
    """The files that the metadata of torch.distributed.checkpoint names; it is a pickle, and stays one."""
    try:
        with open(metadata, "rb") as stream:
            return sorted({each.decode() for each in PART.findall(stream.read())})
    except OSError:
        return []


def json_in(path):
    """None where it cannot be read: of what a checkpoint is made of, `problem_of` says why."""
    try:
        return parsed(path)
    except OSError:
        return None


def parsed(path):
    """None for what is no JSON. Raises OSError."""
    try:
        with open(path, errors="replace") as stream:
            return json.load(stream)
    except (ValueError, RecursionError):
        return None


def problem_of(path):
    """Why a file cannot be whole; empty where nothing speaks against it."""
    try:
        size = os.path.getsize(path)
        if size == 0:
            return "empty"
        if path.endswith(".safetensors"):
            return problem_of_safetensors(path, size)
        if path.endswith(".json"):
            return "" if parsed(path) is not None else "not JSON"
        with open(path, "rb") as stream:
            start = stream.read(4)
            stream.seek(-1, os.SEEK_END)
            end = stream.read(1)
        if path.endswith(".metadata"):
            return "" if end == b"." else "its end is missing"
        if start == b"PK\x03\x04":
            return "" if path.endswith(".distcp") else problem_of_zip(path)  # those are several zips in a row
    except OSError as error:
        return error.strerror or str(error)
    return "" if any(start) else "zeros"  # torch wrote pickles once: nothing tells how long those are to be


def problem_of_zip(path):
    """The list of contents is the last thing in a zip, so a torn one has none. Raises OSError."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "" if archive.namelist() else "an empty zip"
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError):
        return "its end is missing"
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return "its end is missing"  # what is left of the list names a place before the file's beginning


def problem_of_safetensors(path, size):
    """The header says where the last tensor ends."""
    with open(path, "rb") as stream:
        head = stream.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        if length > min(size - 8, MOST_HEADER):
            return "its header is missing"
        try:
            tensors = json.loads(stream.read(length))
            ends = [tensors[name]["data_offsets"][1] for name in tensors if name != "__metadata__"]
            whole = 8 + length + max(ends, default=0) == size
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            return "its header is damaged"
    return "" if whole else "its end is missing"
