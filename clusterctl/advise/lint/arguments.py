"""The config that a script's arguments name, and what of its faults is certain there."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from clusterctl.advise.lint.case import Linted, Reader, Remark, ordered

_OF_DEEPSPEED = "deepspeed_config"
_OF_TRAINER = "deepspeed"
_OF_SCRIPTS = "ds_config"
_OF_LAUNCHERS = frozenset({"local_rank", "deepspeed", _OF_DEEPSPEED, _OF_SCRIPTS})
_BY_VERSION = frozenset(
    {"ds.unknown-key", "ds.type", "ds.removed", "ds.deprecated", "ds.optimizer", "ds.scheduler"}
)
"""What another DeepSpeed may see otherwise."""
_CHANGED_BY_SCRIPTS = frozenset(
    {"ds.batch", "ds.precision", "ds.stage", "ds.nvme", "ds.optimizer", "ds.scheduler"}
)


class Named(msgspec.Struct, frozen=True):
    """``file`` as the script gets it. ``changed``: the script has arguments of its own, and they may win."""

    file: str
    reader: Reader
    changed: bool


def named(words: Sequence[str], *, trainer: bool) -> Named | None:
    """``--deepspeed_config F`` is read by DeepSpeed, ``--deepspeed F`` by transformers where the script uses
    it (``trainer``), ``--ds_config F`` by the script. ``--deepspeed`` alone is DeepSpeed's own switch."""
    found: dict[str, str] = {}
    own = False
    for at, word in enumerate(words):
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        own = own or name not in _OF_LAUNCHERS
        if not equals:
            value = words[at + 1] if at + 1 < len(words) and not words[at + 1].startswith("-") else ""
        if name in _OF_LAUNCHERS and value:
            found[name] = value
    if _OF_DEEPSPEED in found:
        return Named(found[_OF_DEEPSPEED], "deepspeed", own)
    if _OF_TRAINER in found and trainer:
        return Named(found[_OF_TRAINER], "transformers", own)
    file = found.get(_OF_TRAINER) or found.get(_OF_SCRIPTS)
    return Named(file, "script", own) if file else None


def certain(found: Linted, named: Named, *, same_version: bool) -> Linted:
    """What would fail, with only that a failure which must come to pass; the rest is to be looked at."""
    unsure = (_BY_VERSION if not same_version else frozenset()) | (
        _CHANGED_BY_SCRIPTS if named.reader == "script" and named.changed else frozenset()
    )
    weakened = (_weakened(each, unsure) for each in found.remarks)
    return msgspec.structs.replace(found, remarks=ordered(weakened))


def _weakened(remark: Remark, unsure: frozenset[str]) -> Remark:
    finding = remark.finding
    if finding.severity != "fail" or finding.code not in unsure:
        return remark
    return msgspec.structs.replace(remark, finding=msgspec.structs.replace(finding, severity="warn"))
