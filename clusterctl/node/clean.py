"""Removes what old runs left on this node: their copies, and snapshots of code that no copy came from."""

import contextlib
import glob
import os
import re
import shutil
import time

from .run.directory import NodeDirectory
from .run.log_limit import remove_logs
from .run.snapshot import ORIGIN, Snapshots, origin_of
from .shared.processes import run_processes, tag_of
from .shared.wire import emit

RUN_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*")
UNUSED_SECONDS = 3600.0


def size_of(path):
    """Bytes on the disk of a file or a folder."""
    if not os.path.isdir(path) or os.path.islink(path):
        return os.lstat(path).st_blocks * 512 if os.path.lexists(path) else 0
    found = 0
    for folder, _, names in os.walk(path):
        for name in [".", *names]:
            try:
                found += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                continue
    return found


def has_outputs(run_dir, snapshots):
    """Whether the script wrote anything into its copy, as far as can be told."""
    work = os.path.join(run_dir, "work")
    if not os.path.isdir(work) or not os.listdir(work):
        return False
    return not snapshots.is_origin(origin_of(os.path.join(run_dir, ORIGIN)), work)


def clean_run(home, run, node_rank, take_outputs, dry_run, snapshots):
    """What became of this node's part of one run, as a message."""
    path = os.path.join(home, run)
    run_dir = os.path.join(path, str(node_rank))
    message = {"is": "run", "run": run, "what": "absent", "bytes": 0, "reason": ""}
    if not RUN_ID.fullmatch(run) or os.path.islink(path) or not os.path.isdir(path):
        return message
    parts = [name for name in os.listdir(path) if name.partition(".")[0] == str(node_rank)]
    if not parts:
        return message
    message["bytes"] = sum(size_of(os.path.join(path, part)) for part in parts)
    if any(run_processes(tag_of(run, part)) for part in parts):
        return dict(message, what="running")
    if not take_outputs and has_outputs(run_dir, snapshots):
        return dict(message, what="outputs")
    if not dry_run:
        try:
            for part in parts:
                remove_logs(NodeDirectory(os.path.join(path, part)))
                shutil.rmtree(os.path.join(path, part))
            if not os.listdir(path):  # other nodes' parts, on a shared home
                os.rmdir(path)
        except OSError as error:
            return dict(message, what="failed", reason=str(error))
    return dict(message, what="removed")


def unused(home, removed):
    """Paths of snapshots, and rests of deliveries, that nobody used for an hour and no copy comes from."""
    base = os.path.join(home, "snapshots")
    origins = glob.glob(os.path.join(home, "*", "*", ORIGIN))
    needed = {origin_of(each) for each in origins if os.path.dirname(each) not in removed}
    for name in sorted(os.listdir(base)) if os.path.isdir(base) else ():
        path = os.path.join(base, name)
        try:
            old = time.time() - os.lstat(path).st_mtime > UNUSED_SECONDS
        except OSError:
            continue
        if old and name not in needed:
            yield path


def main(request, files):
    home = os.path.join(os.path.expanduser("~"), ".clusterctl", "node")
    snapshots = Snapshots(os.path.join(home, "snapshots"))
    removed = set()
    for run, part in sorted(request["runs"].items()):
        told = clean_run(home, run, part["node_rank"], part["take_outputs"], request["dry_run"], snapshots)
        if told["what"] == "removed":
            removed.add(os.path.join(home, run, str(part["node_rank"])))
        emit(told)
    count = freed = 0
    for path in list(unused(home, removed)):
        count += 1
        freed += size_of(path)
        if not request["dry_run"]:
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):  # another clean on a shared home was first
                    os.unlink(path)
    emit({"is": "done", "snapshots": count, "bytes": freed})
    return 0
