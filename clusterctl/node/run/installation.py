"""Puts what a run needs on a node before its agent starts; removes it when all is on the controller."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys

from ..shared import compiled
from ..shared.environment import environment
from . import caches
from .directory import DUMPS, INPUT, JOB, LEASE, own_folder, write_whole
from .log_limit import make_logs, remove_logs
from .snapshot import ORIGIN, origin_of

ISOLATED = "run.isolated"
BUNDLE = "bundle.json"
PROGRAMS = ("agent", "rank", "enter", "observer", "watches")


def install(directory, job, sources, snapshots, lease):
    """Fill the run directory. The environment of the ranks, which goes into no file.

    Raises OSError; what is there by then stays for `uninstall`.
    """
    os.makedirs(directory.root, mode=0o700)
    os.chmod(os.path.dirname(directory.root), 0o700)
    job["notes"] = []  # what the agent will tell
    make_logs(directory, job)
    write_code(directory.path("code"), sources)
    if job["cwd"] is None:
        bring_copy(directory, job["digest"], snapshots)
    job["cwd"] = working_directory(directory, job["cwd"], job["subdirectory"])
    if job["engine"] is not None:
        job["engine"] = [part.replace("{run_dir}", directory.root) for part in job["engine"]]
    for name, text in job["env"].items():
        if text.startswith("{run_dir}/"):
            job["env"][name] = directory.root + text[len("{run_dir}") :]
    for name, text in job.pop("files").items():
        with open(directory.path(name), "w") as stream:
            stream.write(text)
    os.makedirs(directory.path(DUMPS), 0o700)
    if job.get("observed"):
        own_folder(directory.stacks)
    directory.lay_out(job["ranks"])
    directory.overwrite(LEASE, lease)
    if job.get("stdin"):
        os.close(os.open(directory.path(INPUT), os.O_WRONLY | os.O_CREAT, 0o600))
    if job["enter"]:
        install_enter(directory, job["enter"])
    if job.get("caches"):
        job["env"], note = caches.prepare(directory, job["caches"], job["env"], job["run"])
        job["notes"] += [note] if note else []
    env = environment(job["python"], job["env"], job["removed"], os.environ)
    job["devices"] = env.get("CUDA_VISIBLE_DEVICES")
    directory.write(JOB, {key: value for key, value in job.items() if key != "env"})
    return env


def working_directory(directory, cwd, subdirectory):
    """Where the ranks work: in their own copy of the code, where there is no other ``cwd``."""
    top = os.path.join(directory.home, "work") if cwd is None else os.path.expanduser(cwd)
    return os.path.join(top, subdirectory) if subdirectory else top


def bring_copy(directory, digest, snapshots):
    """The run's own copy of its code, which later attempts find as the script has left it."""
    work, origin = os.path.join(directory.home, "work"), os.path.join(directory.home, ORIGIN)
    if os.path.isdir(work) and origin_of(origin) == digest:
        return
    os.makedirs(directory.home, mode=0o700, exist_ok=True)
    write_whole(origin, digest)
    snapshots.copy(digest, work)


def write_code(folder, sources):
    """The bundle as one file, what starts each program from it, and ``site``: what a rank imports first."""
    os.makedirs(os.path.join(folder, "site"), mode=0o700)
    write_text(os.path.join(folder, "site", "sitecustomize.py"), sources["run.sitecustomize"])
    write_text(os.path.join(folder, BUNDLE), json.dumps({"digest": compiled.digest(), "files": sources}))
    write_text(os.path.join(folder, "loader.py"), sources["loader"])
    for program in PROGRAMS:
        write_text(os.path.join(folder, program + ".py"), sources[ISOLATED])


def write_text(path, text):
    with open(path, "w") as stream:
        stream.write(text)


def install_enter(directory, path):
    """Where every host has the same path: the file DeepSpeed's launcher starts as if it were python."""
    folder = os.path.dirname(path)
    own_folder(folder)
    runs = os.path.dirname(directory.root)
    suffix = directory.part[len(os.path.basename(directory.home)) :]
    words = (sys.executable, directory.path("code/enter.py"), runs, suffix)
    quoted = ["'%s'" % word.replace("'", "'\\''") for word in words]
    text = '#!/bin/sh\nexec %s -I -S %s %s %s "$@"\n' % tuple(quoted)
    partial = "%s.%d" % (path, os.getpid())
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700), "w") as stream:
        stream.write(text)
    os.replace(partial, path)


def uninstall(directory, enter, snapshots, last):
    """All is on the controller: keep what the script wrote, and what tells that from its code; unless this
    attempt is the ``last``, the whole copy.

    What cannot be removed stays: NFS keeps what somebody still holds open.
    """
    with contextlib.suppress(OSError):
        caches.remove(directory)
    if last:
        with contextlib.suppress(OSError):
            snapshots.release(os.path.join(directory.home, "work"), os.path.join(directory.home, ORIGIN))
    if enter:
        shutil.rmtree(os.path.dirname(enter), ignore_errors=True)
    remove_logs(directory)
    names = os.listdir(directory.root) if os.path.isdir(directory.root) else []
    for name in names:
        if name not in ("work", ORIGIN):
            target = directory.path(name)
            if os.path.isdir(target):
                shutil.rmtree(target, ignore_errors=True)
            else:
                directory.remove(name)
    for folder in (directory.root, directory.home, os.path.dirname(directory.root)):
        with contextlib.suppress(OSError):  # outputs are kept, and other nodes on a shared home
            os.rmdir(folder)
