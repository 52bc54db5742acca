"""Real texts of failures, and what is made of each: `python -m tests.test_advise_signatures` writes what is
expected anew, to be read before it is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clusterctl.advise.sightings import Excerpt, Sighting, sightings
from clusterctl.advise.signature import Source
from clusterctl.advise.signatures import SIGNATURES

TEXTS = Path(__file__).parent / "fixtures" / "why"
EXPECTED = TEXTS / "expected.json"
FILES = sorted(str(path.relative_to(TEXTS)) for path in TEXTS.rglob("*.txt"))
KNOWN = {
    "host": "node2",
    "run": "20260101-120000-aaaa",
    "world": "4",
    "slots": "0,1",
    "python": "/opt/venv/bin/python",
    "master_host": "node1",
    "master_port": "29500",
    "log": "logs/node2/rank-3.log",
}


def told(name: str) -> Sighting | None:
    source: Source = "end" if name.startswith("end/") else "text"
    excerpt = Excerpt(text=(TEXTS / name).read_text().rstrip("\n"), host="node2", rank=3)
    found = sightings(excerpt, KNOWN, source=source, local_rank=True)
    return found[0][1] if found else None


def expected() -> dict[str, dict[str, str]]:
    found = {name: told(name) for name in FILES}
    return {
        name: {"code": seen.code, "role": seen.role, "means": seen.means, "hint": seen.hint}
        for name, seen in found.items()
        if seen is not None
    }


@pytest.mark.parametrize("name", FILES)
def test_a_real_text_is_known_for_what_it_is(name: str) -> None:
    seen = told(name)
    assert seen is not None, "no known signature"
    wanted = json.loads(EXPECTED.read_text())[name]
    assert {"code": seen.code, "role": seen.role, "means": seen.means, "hint": seen.hint} == wanted
    assert Path(name).name.startswith(seen.code + "."), "the file bears the code of what it shows"


def test_every_signature_has_a_real_text() -> None:
    shown = {seen.code for seen in map(told, FILES) if seen is not None}
    assert {signature.code for signature in SIGNATURES} <= shown


if __name__ == "__main__":
    EXPECTED.write_text(json.dumps(expected(), indent=1, ensure_ascii=False) + "\n")
