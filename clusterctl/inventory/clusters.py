"""Named clusters, as `config.toml` and `clusterctl.toml` have them. Pure: the texts come in as arguments."""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from clusterctl.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KEYS = ("hostfile", "profile", "engine", "env")
_ENGINES = ("torchrun", "deepspeed")
_TRACKERS = ("wandb", "trackio")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_LOADS_CODE = re.compile(r"LD_|PYTHON|PATH\Z|BASH_ENV\Z|ENV\Z|PS4\Z|.*(PRELOAD|PLUGIN|COMMAND|_PATH\Z|_LIB)")
"""Variables by which a program that is not the project's is made to load or run something."""


class NamedCluster(msgspec.Struct, frozen=True, kw_only=True):
    """What ``-c NAME`` stands for. Empty means: nothing is said of it. ``hostfile`` and a profile's file are
    whole paths. ``origins`` has the file of each key that is set, as people know it."""

    name: str
    hostfile: str = ""
    profile: str = ""
    engine: str = ""
    env: dict[str, str] = {}
    env_origins: dict[str, str] = {}
    origins: dict[str, str] = {}

    @property
    def how(self) -> str:
        """One line for the screen: ``cluster lab: hostfile, profile of ~/.config/clusterctl/config.toml``."""
        files: dict[str, list[str]] = {}
        for key in _KEYS:
            for source in self.origins.get(key, "").split(" and "):
                if source:
                    files.setdefault(source, []).append(key)
        parts = (f"{', '.join(keys)} of {source}" for source, keys in files.items())
        return f"cluster {self.name}: {'; '.join(parts)}"


class Tracking(msgspec.Struct, frozen=True, kw_only=True):
    """Where the metrics of a run are sent that is not told another place, and to which project. Empty: not
    said."""

    to: str = ""
    project: str = ""


def parse(
    text: str, source: str, folder: str, *, shipped: Iterable[str], trusted: bool
) -> dict[str, NamedCluster]:
    """The clusters of one file, by name. Relative paths are relative to ``folder``; a profile that is one of
    ``shipped`` stays a name. A file that is not ``trusted`` comes with a project, which may be somebody
    else's: it cannot name what runs commands. Raises UsageError with file and line.
    """
    data = _tables(text, source)
    reading = _Reading(text, source, folder, frozenset(shipped), trusted)
    reading.known("", data, ("cluster", "track"))
    if "track" in data and not trusted:
        reading.refuse(
            "track",
            "a project's file cannot say where your metrics are sent",
            "launch --track, or [track] in your own config.toml",
        )
    tables = data.get("cluster", {})
    if not isinstance(tables, dict) or not all(isinstance(each, dict) for each in tables.values()):
        reading.refuse("cluster", "`cluster` holds one table for each name", "[cluster.lab]")
    return {name: reading.cluster(name, table) for name, table in tables.items()}


def tracking(text: str, source: str) -> Tracking:
    """The section ``[track]`` of the user's own file. Raises UsageError with file and line."""
    table = _tables(text, source).get("track", {})
    reading = _Reading(text, source, "", frozenset(), trusted=True)
    if not isinstance(table, dict):
        reading.refuse("track", "`track` is not a section", '[track] and to = "wandb"')
    reading.known("track", table, ("to", "project"))
    for key, value in table.items():
        if not isinstance(value, str) or not value:
            reading.refuse(f"track.{key}", f"{key} is not a text", f'{key} = "..."')
    if table.get("to", _TRACKERS[0]) not in _TRACKERS:
        reading.refuse("track.to", f"nothing is sent to {table['to']!r}", " or ".join(_TRACKERS))
    return Tracking(to=table.get("to", ""), project=table.get("project", ""))


def _tables(text: str, source: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = f":{place[1]}" if place else ""
        raise UsageError(
            f"{source}{line}: {str(error).partition(' (at ')[0]}",
            hint='hostfile = "hosts", under [cluster.lab]',
        ) from None
    return found


def over(stronger: Mapping[str, NamedCluster], weaker: Mapping[str, NamedCluster]) -> dict[str, NamedCluster]:
    """Both files, key by key; variables by their names."""
    return {
        name: _merged(stronger[name], weaker[name]) if name in stronger and name in weaker else each
        for name, each in {**weaker, **stronger}.items()
    }


def find(clusters: Mapping[str, NamedCluster], name: str, looked: str) -> NamedCluster:
    """The one of that name. Raises UsageError; ``looked`` says where clusters may be written down."""
    if name in clusters:
        return clusters[name]
    near = get_close_matches(name, clusters, n=1)
    raise UsageError(
        f"there is no cluster {name!r}: looked in {looked}",
        hint=f"did you mean {near[0]!r}?"
        if near
        else f"there are {', '.join(sorted(clusters))}"
        if clusters
        else 'write there: [cluster.lab] and hostfile = "FILE"',
    )


def _merged(stronger: NamedCluster, weaker: NamedCluster) -> NamedCluster:
    origins = {**weaker.origins, **stronger.origins}
    if stronger.env and weaker.env:
        origins["env"] = f"{stronger.origins['env']} and {weaker.origins['env']}"
    return NamedCluster(
        name=stronger.name,
        hostfile=stronger.hostfile or weaker.hostfile,
        profile=stronger.profile or weaker.profile,
        engine=stronger.engine or weaker.engine,
        env={**weaker.env, **stronger.env},
        env_origins={**weaker.env_origins, **stronger.env_origins},
        origins=origins,
    )


class _Reading:
    """One file, and where its keys stand in it."""

    def __init__(self, text: str, source: str, folder: str, shipped: frozenset[str], trusted: bool) -> None:
        self._lines = text.splitlines()
        self._source = source
        self._folder = folder
        self._shipped = shipped
        self._trusted = trusted

    def cluster(self, name: str, table: dict[str, Any]) -> NamedCluster:
        place = f"cluster.{name}"
        if not _NAME.match(name):
            self.refuse(place, f"{name!r} cannot be the name of a cluster", "letters, digits, - and _")
        self.known(place, table, _KEYS)
        for key in ("hostfile", "profile", "engine"):
            if not isinstance(table.get(key, ""), str) or table.get(key) == "":
                self.refuse(f"{place}.{key}", f"{key} is not a text", f'{key} = "..."')
        env = table.get("env", {})
        if not isinstance(env, dict) or not all(isinstance(each, str) for each in env.values()):
            self.refuse(f"{place}.env", "env is not a table of texts", 'env = {NCCL_DEBUG = "INFO"}')
        engine = table.get("engine", "")
        if engine and engine not in _ENGINES:
            self.refuse(f"{place}.engine", f"there is no engine {engine!r}", " or ".join(_ENGINES))
        if not self._trusted:
            self._harmless(place, table.get("profile", ""), env)
        profile = table.get("profile", "")
        return NamedCluster(
            name=name,
            hostfile=self._path(table.get("hostfile", "")),
            profile=profile if profile in self._shipped else self._path(profile),
            engine=engine,
            env=env,
            env_origins=dict.fromkeys(env, f"cluster {name} in {self._source}"),
            origins=dict.fromkeys((key for key in _KEYS if table.get(key)), self._source),
        )

    def _harmless(self, place: str, profile: str, env: dict[str, str]) -> None:
        if profile and profile not in self._shipped:
            self.refuse(
                f"{place}.profile",
                f"a project's file cannot name the profile {profile}: hosts run its lines",
                f"--profile, or your own config.toml; or one of {_some(self._shipped)}",
            )
        for name in env:
            if _LOADS_CODE.match(name):
                self.refuse(
                    f"{place}.env.{name}",
                    f"a project's file cannot set {name}, by which programs load or run something",
                    "give it with --env, or say so in your own config.toml",
                )

    def known(self, place: str, table: dict[str, Any], keys: tuple[str, ...]) -> None:
        for key in table:
            if key not in keys:
                near = get_close_matches(key, keys, n=1)
                where = f"{place}.{key}" if place else key
                hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(keys)}"
                self.refuse(where, f"`{key}` is not known here", hint)

    def refuse(self, place: str, message: str, hint: str) -> None:
        raise UsageError(f"{self._source}{self._line(place)}: {message}", hint=hint)

    def _path(self, name: str) -> str:
        if not name or name.startswith("~"):
            return name
        return posixpath.normpath(posixpath.join(self._folder, name))

    def _line(self, place: str) -> str:
        """Where ``cluster.lab.env.NAME`` stands; the line of its table where it is written in another way."""
        best, table = "", ""
        for number, line in enumerate(self._lines, 1):
            if found := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
                table = found[1].replace('"', "").replace("'", "").replace(" ", "")
                here = table
            else:
                key = line.partition("=")[0].strip().replace('"', "")
                here = f"{table}.{key}" if table and key else key
            if not here or line.lstrip().startswith("#"):
                continue
            if f"{place}.".startswith(f"{here}.") or (not best and here.startswith(f"{place}.")):
                best = f":{number}"
        return best


def _some(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
