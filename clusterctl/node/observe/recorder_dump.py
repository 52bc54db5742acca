"""What torch's flight recorder tells as JSON (`fr_trace_json`, `dump_nccl_trace_json`), as ``Recorder``.

Nothing is expected of the text: whatever has another shape is left out.
"""

import json
import re

_MOST_GROUPS = 64
_MOST_OF_A_GROUP = 32
_LONGEST = 200
_MOST_RANKS = 16384
_MOST_TENSORS = 8
_MOST_DIMENSIONS = 8


def parse(*dumps):
    """The fields of ``Recorder`` from what all recorders of a rank tell: gloo and NCCL each have their own.
    None where none of that is a dump.

    Of each group: the newest collectives, and those from the first that is not done.
    """
    found = [recorder for recorder in map(_parse, dumps) if recorder is not None]
    if not found:
        return None
    collectives = [each for recorder in found for each in recorder["collectives"]]
    return {
        "groups": [group for recorder in found for group in recorder["groups"]][:_MOST_GROUPS],
        "collectives": sorted(collectives, key=lambda each: each["created"]),
    }


def _parse(data):
    try:
        dump = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(dump, dict):
        return None
    entries = [entry for entry in _list(dump.get("entries")) if isinstance(entry, dict)]
    kept: dict[tuple[str, str, bool], list[dict[str, object]]] = {}
    names: dict[str, tuple[str, str]] = {}
    for entry in entries:
        name, description = _names(entry)
        backend = _text(entry.get("profiling_name")).partition(":")[0]
        kept.setdefault((name, backend, entry.get("is_p2p") is True), []).append(entry)
        names.setdefault(_text(entry.get("pg_id")), (name, description))
    chosen = {id(entry) for of_group in list(kept.values())[:_MOST_GROUPS] for entry in _near(of_group)}
    return {
        "groups": _groups(dump, names)[:_MOST_GROUPS],
        "collectives": [_collective(entry) for entry in entries if id(entry) in chosen],
    }


def _near(entries):
    first = next((index for index, entry in enumerate(entries) if not _done(entry)), len(entries))
    start = max(0, first - 2)
    newest = max(len(entries) - _MOST_OF_A_GROUP, 0)
    if start >= newest:
        return entries[newest:]
    return entries[start : min(start + _MOST_OF_A_GROUP, newest)] + entries[newest:]


def _collective(entry):
    together = entry.get("is_p2p") is not True
    return {
        "group": _names(entry)[0],
        "sequence": _number(entry.get("collective_seq_id" if together else "p2p_seq_id"), 0),
        "operation": _text(entry.get("profiling_name")),
        "input_sizes": _sizes(entry.get("input_sizes")),
        "output_sizes": _sizes(entry.get("output_sizes")),
        "dtypes": [_text(each) for each in _list(entry.get("input_dtypes"))[:_MOST_TENSORS]],
        "point_to_point": not together,
        "started": _started(entry),
        "done": _done(entry),
        "created": _number(entry.get("time_created_ns"), 0) / 1e9,
    }


def _started(entry):
    """Backends without device events, as gloo, leave every entry "scheduled"."""
    return (
        entry.get("state") in ("started", "completed")
        or _number(entry.get("time_discovered_started_ns"), 0) > 0
    )


def _done(entry):
    return entry.get("retired") is True or entry.get("state") == "completed"


def _groups(dump, names):
    """Groups of which there is a count, or members, by the name that collectives bear."""
    status, config = _dict(dump.get("pg_status")), _dict(dump.get("pg_config"))
    members = {}
    for key, told in config.items():
        members[_text(_dict(told).get("name")) or _text(key)] = _dict(told)
    groups = []
    for ident, counts in status.items():
        name, description = names.get(_text(ident), (_text(ident), ""))
        told = members.pop(name, {})
        groups.append(_group(name, description, told, _dict(counts)))
    # Some backends leave the name empty, and tell whichever group was made last: that helps nobody.
    groups += [_group(name, "", told, {}) for name, told in members.items() if name]
    return groups


def _group(name, description, told, counts):
    return {
        "name": name,
        "description": description or _text(told.get("desc")),
        "ranks": _ranks(told.get("ranks")),
        "last_enqueued": _number(counts.get("last_enqueued_collective"), -1),
        "last_started": _number(counts.get("last_started_collective"), -1),
        "last_completed": _number(counts.get("last_completed_collective"), -1),
    }


def _names(entry):
    pair = _list(entry.get("process_group"))
    return _text(pair[0]) if pair else "", _text(pair[1]) if len(pair) > 1 else ""


def _ranks(told):
    """Global ranks, which torch writes as the text ``[0, 1]``."""
    numbers = re.findall(r"\d{1,6}", told) if isinstance(told, str) else _list(told)
    return [rank for rank in (_number(each, -1) for each in numbers[:_MOST_RANKS]) if rank >= 0]


def _sizes(told):
    return [
        [_number(each, 0) for each in _list(sizes)[:_MOST_DIMENSIONS]]
        for sizes in _list(told)[:_MOST_TENSORS]
    ]


def _list(told):
    return told if isinstance(told, list) else []


def _dict(told):
    return told if isinstance(told, dict) else {}


def _text(told):
    """JSON can hold halves of characters, which could not be sent on."""
    return str(told)[:_LONGEST].encode("utf-8", "replace").decode() if isinstance(told, (str, int)) else ""


def _number(told, otherwise):
    if isinstance(told, bool):
        return otherwise
    try:
        number = int(told)
    except (TypeError, ValueError, OverflowError):
        return otherwise
    return number if -(2**62) < number < 2**62 else otherwise
