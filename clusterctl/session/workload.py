"""What is to be trained, as typed: the script and the directory it runs in."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

import msgspec

from clusterctl.ask import repository
from clusterctl.ask.ignore import IGNORE_FILE, belongs
from clusterctl.ask.tree import TooBig, Tree, Unusable, scan
from clusterctl.errors import UsageError
from clusterctl.plan import nested
from clusterctl.plan.model import Code
from clusterctl.plan.nested import Nested, Script
from clusterctl.report.pull import printable
from clusterctl.session.options import LaunchOptions
from clusterctl.session.sizes import sync_limit
from clusterctl.settings import SYNC

SHIPPED = "pretrain.py"
_NAMED = 5


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """``command`` runs inside ``code``; ``{python}`` stands for each host's interpreter. ``tree`` is what to
    copy to the hosts, None when nothing is."""

    command: tuple[str, ...]
    code: Code
    tree: Tree | None


def shipped_directory() -> Path:
    """Where the shipped workload lies: inside an installed package, beside it in a checkout."""
    package = Path(str(resources.files("clusterctl")))
    return next(path for path in (package / "_train", package.parent / "train") if path.is_dir())


def understood(options: LaunchOptions) -> tuple[LaunchOptions, Nested | None]:
    """``options`` with the script itself where another launcher was typed in its place, and what that said.

    Raises UsageError where it cannot be meant. A script of the user's that bears such a name is one.
    """
    meant = None
    if options.script and not _is_own(options):
        meant = nested.recognise(
            Script(
                script=options.script,
                arguments=options.arguments,
                module=options.module,
                python=options.python,
            )
        )
    if meant is None:
        return options, None
    if meant.engine and options.engine and meant.engine != options.engine:
        raise UsageError(
            f"`{meant.launcher}` was typed, and --engine {options.engine}", hint="leave out one of them"
        )
    engine = meant.engine or options.engine
    local_rank = options.local_rank and meant.local_rank
    script = msgspec.structs.asdict(meant.script)
    settings = (*options.settings, *meant.settings)
    changed = {**script, "settings": settings, "engine": engine, "local_rank": local_rank}
    return msgspec.structs.replace(options, **changed), meant


def _is_own(options: LaunchOptions) -> bool:
    """Whether the script is a file of the project; the programs of a virtual environment in it are not."""
    folder = Path(options.workdir).expanduser() if options.workdir else _here()
    path = _here() / options.script
    environment = (path.parent.parent / "pyvenv.cfg").is_file()
    return path.is_file() and not environment and path.resolve().is_relative_to(folder.resolve())


def resolve(options: LaunchOptions) -> Workload:
    """Check what was asked for against the disk here. Raises UsageError."""
    if not options.script:
        return _shipped()
    try:
        return _own(options)
    except PermissionError as error:
        raise UsageError(
            f"{error.filename} cannot be read: {error.strerror}", hint="name what you may read, or copy it"
        ) from error


def _own(options: LaunchOptions) -> Workload:
    here = _here()
    named = Path(options.workdir).expanduser().resolve() if options.workdir else here
    if not named.is_dir():
        raise UsageError(
            f"--workdir {options.workdir} is not a directory", hint="name the project's directory"
        )
    tree, notes = _scan(named, options) if options.sync else (None, [])
    root = Path(tree.root) if tree is not None else named
    start = here if here.is_relative_to(root) else root
    code = Code(root=str(root), subdirectory=start.relative_to(root).as_posix() if start != root else "")
    if tree is not None:
        code = msgspec.structs.replace(
            code,
            digest=tree.digest,
            files=tree.count,
            size=tree.size,
            repository=root != named,
            notes=(*notes, *_not_sent(tree)),
        )
    return Workload(command=_command(options, start, root), code=code, tree=tree)


def _shipped() -> Workload:
    tree = scan(shipped_directory())
    code = Code(root=tree.root, digest=tree.digest, files=tree.count, size=tree.size, in_place=False)
    return Workload(command=("{python}", "-u", SHIPPED), code=code, tree=tree)


def checkpoints_of(options: LaunchOptions) -> tuple[str, tuple[str, ...] | None]:
    """Where the run's checkpoints lie, empty where that is unknown; and its arguments in place of those given
    where there is one to go on from. The shipped workload says the first and needs the second."""
    if options.script:
        return options.checkpoint_dir, None
    directory, kept = options.checkpoint_dir, list[str]()
    words = iter(options.arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in ("--save_dir", "--resume"):
            kept.append(word)
            continue
        value = value if equals else next(words, "")
        if name == "--save_dir":
            directory = directory or value
            kept += [name, value]
    return directory, (*kept, "--resume", "auto") if directory else None


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise UsageError("the current directory is gone", hint="change into another one") from error


def _scan(named: Path, options: LaunchOptions) -> tuple[Tree, list[str]]:
    """What travels, and notes on that: ``named`` itself where it was asked for, otherwise the git repository
    that it is part of, where that may be copied."""
    max_bytes, max_files = sync_limit(options.sync_limit), _files(options.sync_limit)
    found = None if options.workdir else repository.around(named)
    notes = []
    if found is not None and found.root != named and belongs(named, found):
        if repository.is_own(found):
            try:
                return scan(found.root, max_bytes=max_bytes, max_files=max_files), []
            except (TooBig, Unusable) as error:
                notes = [f"only {named} travels, not the git repository around it: {error.message}"]
        else:
            notes = [f"only {named} travels: the git repository {found.root} belongs to somebody else"]
    return scan(named, max_bytes=max_bytes, max_files=max_files), notes


def _not_sent(tree: Tree) -> list[str]:
    notes = []
    if tree.ignored:
        notes.append(f"left out by .gitignore: {_some(tree.ignored)}; `!NAME` in {IGNORE_FILE} sends it")
    if tree.special:
        notes.append(f"sockets, pipes and devices are not sent: {_some(tree.special)}")
    return notes


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(printable, names[:_NAMED])) + more


def _command(options: LaunchOptions, start: Path, root: Path) -> tuple[str, ...]:
    script = options.script
    if options.module:
        if script.endswith(".py") and (start / script).is_file():
            raise UsageError(f"-m takes a module, and {script} is a file", hint="leave out -m")
        return ("{python}", "-u", "-m", script)
    path = (start / script).resolve()
    if not options.python and "/" not in script and not path.is_file():
        return (script,)
    if path.is_dir():
        raise UsageError(f"the script {path} is a folder", hint="name a file in it, or a module with -m")
    if not path.is_file():
        raise UsageError(
            f"the script {script} does not exist in {start}",
            hint="options of launch come before SCRIPT, its own arguments after; -m runs a module",
        )
    if not path.is_relative_to(root):
        raise UsageError(
            f"the script {path} lies outside the working directory {root}, so the hosts would not get it",
            hint=f"--workdir {path.parent}",
        )
    name = script if not Path(script).is_absolute() else os.path.relpath(path, start)
    if options.python and path.suffix == ".sh":
        raise UsageError(
            f"{script} is a shell script, not a Python script",
            hint="--no-python starts it once a rank; training that it starts itself is what to launch",
        )
    if options.python:
        return ("{python}", "-u", name)
    return (f"./{name}" if "/" not in name else name,)


def _files(limit: str) -> int:
    # Who raises the limit has looked at what goes over.
    return SYNC.max_files if not limit else 10 * SYNC.max_files
