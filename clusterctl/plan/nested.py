"""Another launcher, typed where the script belongs: `clusterctl launch torchrun --nnodes 2 train.py`. Pure.

Started on every slot of every host it would start everything once more, and hang. What it would have run is
found in its words: taken, where that means exactly the same, else refused with the command to type.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal

import msgspec

from clusterctl.errors import UsageError
from clusterctl.inventory.model import Inventory
from clusterctl.plan import launcher_flags as tables
from clusterctl.plan.launcher_flags import Meaning
from clusterctl.plan.launcher_words import Flag, UnknownFlagError, split
from clusterctl.plan.model import Engine, Setting

_PYTHON = re.compile(r"python[\d.]*")
_MODULES = {
    "torch.distributed.run": "torchrun",
    "torch.distributed.launch": "torch.distributed.launch",
    "deepspeed": "deepspeed",
    "deepspeed.launcher.runner": "deepspeed",
    "accelerate.commands.launch": "accelerate launch",
    "accelerate.commands.accelerate_cli": "accelerate",
    "horovod.runner.launch": "horovodrun",
}
_PYTHON_VALUES = ("-W", "-X", "-Q", "--check-hash-based-pycs")
_SCRIPT = "SCRIPT [ARGS]..."
_OF_SCRIPT = ("-m", "--module", "--no-python")


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be started once a rank: a file, a ``module``, or without ``python`` a program."""

    script: str
    arguments: tuple[str, ...] = ()
    module: bool = False
    python: bool = True


class Claim(msgspec.Struct, frozen=True):
    """What a flag says of the world: so many ``hosts``, or so many ``slots`` on each of them."""

    typed: str
    what: Literal["hosts", "slots"]
    count: int


class Nested(msgspec.Struct, frozen=True, kw_only=True):
    """What another launcher's command line means. ``launcher`` as typed."""

    launcher: str
    script: Script
    engine: Engine | None = None
    local_rank: bool = True
    settings: tuple[Setting, ...] = ()
    claims: tuple[Claim, ...] = ()

    @property
    def note(self) -> str:
        """What to tell of it; "" for an interpreter, which nobody misses."""
        if _PYTHON.fullmatch(self.launcher):
            return ""
        if self.engine:
            return f"`{self.launcher}` is taken as --engine {self.engine}"
        return f"`{self.launcher}` is left out: launch starts its script itself, on every slot"

    def check(self, inventory: Inventory) -> None:
        """Hold the claims against the hosts and slots that were chosen. Raises Refused."""
        for claim in self.claims:
            if claim.what == "hosts" and claim.count != len(inventory.hosts):
                found = len(inventory.hosts)
                raise Refused(
                    f"`{self.launcher} {claim.typed}`, but {inventory.source} "
                    f"gives {found} host{'' if found == 1 else 's'}",
                    ["--nodes", str(claim.count)] if claim.count < found else [],
                    self.script,
                )
            odd = [host for host in inventory.hosts if len(host.slots) != claim.count]
            if claim.what == "slots" and odd:
                first, count = odd[0], len(odd[0].slots)
                fewer = any(len(host.slots) < claim.count for host in odd)
                raise Refused(
                    f"`{self.launcher} {claim.typed}`, but {inventory.source} "
                    f"gives {first.name} {count} slot{'' if count == 1 else 's'}",
                    [] if fewer else ["--gpus-per-node", str(claim.count)],
                    self.script,
                )


class Refused(UsageError):
    """Its hint is the command to type: ``flags``, then the script, between ``lead`` and ``tail``."""

    def __init__(
        self, message: str, flags: Sequence[str], script: Script | None, *, lead: str = "", tail: str = ""
    ) -> None:
        super().__init__(message, hint=f"{lead}{form(flags, script)}{tail}")
        self._flags, self._script, self._lead, self._tail = list(flags), script, lead, tail

    def after(self, typed: Sequence[str]) -> Refused:
        """With the options that were typed before the other launcher."""
        kept = [word for word in typed if word not in _OF_SCRIPT]
        flags = self._flags[2:] if "--engine" in kept and self._flags[:1] == ["--engine"] else self._flags
        return Refused(self.message, [*kept, *flags], self._script, lead=self._lead, tail=self._tail)


def form(flags: Sequence[str], script: Script | None) -> str:
    """The command to type here."""
    words = ["clusterctl", "launch", *flags]
    if script is None:
        return f"{shlex.join(words)} {_SCRIPT}"
    words += ["-m"] * script.module + ["--no-python"] * (not script.python)
    if script.script.startswith("-"):
        words.append("--")
    return shlex.join([*words, script.script, *script.arguments])


def recognise(wanted: Script) -> Nested | None:
    """What ``wanted`` means when it is another launcher or an interpreter, None when it is neither.

    Raises Refused where it cannot be meant, or not exactly: before any host is asked.
    """
    if wanted.module:
        launcher = _MODULES.get(wanted.script, "")
        return _launcher(launcher, f"-m {wanted.script}", wanted.arguments) if launcher else None
    name = PurePosixPath(wanted.script).name
    if wanted.python and _PYTHON.fullmatch(name):
        return _python(wanted.script, wanted.arguments)
    if wanted.python and name in tables.PROGRAMS:
        own = msgspec.structs.replace(wanted, python=False)
        raise Refused(f"`{name}` is a program, not a Python script", [], own)
    if wanted.python and name in tables.ENVIRONMENTS:
        raise Refused(
            f"`{wanted.script}` chooses an environment here, and every host has its own",
            [],
            _inside(wanted.arguments),
            tail="; `python:` or `activate:` in a profile chooses it",
        )
    if name in tables.LAUNCHERS:
        return _launcher(name, wanted.script, wanted.arguments)
    return None


def _python(program: str, words: tuple[str, ...]) -> Nested:
    """``python -u train.py``: every rank is started so anyway."""
    script, refused, left = None, [], list(words)
    while left and script is None:
        word = left.pop(0)
        if word == "-m" and left:
            script = Script(script=left[0], arguments=tuple(left[1:]), module=True)
        elif word == "-c" or word == "-":
            break
        elif word in _PYTHON_VALUES and left:
            refused.append(f"{word} {left.pop(0)}")
        elif word.startswith("-"):
            refused += [word] if word != "-u" else []
        else:
            script = Script(script=word, arguments=tuple(left))
    if script is None or not script.script:
        raise Refused(
            f"`{shlex.join((program, *words))}` names no script", [], None, tail="; -m runs a module"
        )
    if script.module and script.script in _MODULES:
        return _launcher(_MODULES[script.script], f"{program} -m {script.script}", script.arguments)
    if refused:
        own = Script(script=PurePosixPath(program).name, arguments=words, python=False)
        raise Refused(f"`{program} {refused[0]}`: launch starts Python itself, with -u only", [], own)
    if program not in ("python", "python3"):
        raise Refused(
            f"launch starts every rank with the Python of its host, not with `{program}`",
            [],
            script,
            tail=f"; `python: {_absolute(program)}` in a profile names another one",
        )
    return Nested(launcher=program, script=script)


def _absolute(program: str) -> str:
    return program if program.startswith("/") else f"/PATH/TO/{PurePosixPath(program).name}"


def _launcher(name: str, typed: str, words: tuple[str, ...]) -> Nested:
    known = tables.LAUNCHERS[name]
    if known.subcommand:
        if words[:1] != (known.subcommand,):
            raise Refused(
                f"`{shlex.join((typed, *words[:1]))}` trains nothing",
                [],
                None,
                lead="run it where you are; ",
                tail=" trains",
            )
        typed, words = f"{typed} {known.subcommand}", words[1:]
    if known.reads is None:
        raise Refused(f"`{typed}`: {known.why}", [], _inside(words))
    try:
        flags, rest = split(words, known.reads)
    except UnknownFlagError as error:
        why = tables.refusal(error.typed) or "an option that launch does not know"
        raise Refused(f"`{typed} {error.typed}`: {why}", [], _inside(words)) from None
    return _meant(known, typed, flags, rest)


def _meant(known: tables.Launcher, typed: str, flags: tuple[Flag, ...], rest: tuple[str, ...]) -> Nested:
    """All flags must mean something here, exactly; else the refusal carries what they would be called."""
    claims: list[Claim] = []
    settings: list[Setting] = []
    instead = ["--engine", known.engine] if known.engine else []
    trouble = [known.why] if known.why else []
    switches: set[str] = set()
    for flag in flags:
        meaning: Meaning = known.meanings.get(flag.name) or known.otherwise(flag)
        told = meaning(flag)
        if told.claims is not None:
            claims.append(Claim(flag.typed, *told.claims))
        origin = f"{typed} {flag.name}"
        settings += (Setting(name, value, origin) for name, value in told.settings)
        instead += told.instead
        switches.update(told.switches)
        if told.why:
            trouble.append(f"{flag.typed}: {told.why}" if not known.why else told.why)
    script = None
    if rest and rest[0]:
        script = Script(
            script=rest[0],
            arguments=rest[1:],
            module="module" in switches,
            python="no-python" not in switches,
        )
    local_rank = "no-local-rank" not in switches
    if known.engine and not local_rank:
        instead.append("--no-local-rank")
    if script is None:
        raise Refused(f"`{typed}` names no script", instead, None)
    if trouble:
        raise Refused(f"`{typed}`: {'; '.join(dict.fromkeys(trouble))}", instead, script)
    inner = recognise(script)
    if inner is not None and not inner.launcher.startswith("python"):
        raise Refused(f"`{typed}` starts `{inner.launcher}`, which starts ranks again", instead, inner.script)
    return Nested(
        launcher=typed,
        script=inner.script if inner is not None else script,
        engine=known.engine,
        local_rank=local_rank,
        settings=tuple(settings),
        claims=tuple(claims),
    )


def _inside(words: Sequence[str]) -> Script | None:
    """The script among words whose flags nobody knows: what an interpreter is given, or a Python file."""
    for at, word in enumerate(words):
        if _PYTHON.fullmatch(PurePosixPath(word).name):
            found = _after_python(words[at + 1 :])
            if found is not None:
                return found
        if word.endswith(".py") and not word.startswith("-"):
            return Script(script=word, arguments=tuple(words[at + 1 :]))
        if PurePosixPath(word).name in tables.LAUNCHERS and at + 1 < len(words):
            found = _inside(words[at + 1 :])
            if found is not None:
                return found
    return None


def _after_python(words: Sequence[str]) -> Script | None:
    left = list(words)
    while left and left[0].startswith("-"):
        word = left.pop(0)
        if word == "-m" and left:
            if left[0] in _MODULES:
                return _inside(left[1:])
            return Script(script=left[0], arguments=tuple(left[1:]), module=True)
    return Script(script=left[0], arguments=tuple(left[1:])) if left else None
