"""libnccl asked on a host: what is told of a child that answers, crashes, hangs or talks nonsense."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.facts.decode import decode_nccl
from clusterctl.messages.examination import AskNccl
from clusterctl.node.shared import wire
from clusterctl.node.traffic import nccl_child
from clusterctl.node.traffic.nccl import Nccl

CHILD = Path(nccl_child.__file__).read_text(encoding="utf-8")
ANSWERS = """
import json, os, signal
picked = {"address": os.environ.get("WANTED", ""), "port": 40000, "missing": os.environ.get("SSH_CLIENT", "")}
print("NCCL version 2.x, and other words")
print("\\n" + json.dumps({"nccl": picked}), flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""
WITHOUT = pytest.mark.skipif(
    any(Path(sysconfig.get_paths()["purelib"]).glob("nvidia/nccl/lib/libnccl.so*")),
    reason="this Python has a libnccl: torch with CUDA",
)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    heard: list[Mapping[str, Any]] = []
    monkeypatch.setattr(wire, "emit", heard.append)
    return heard


@pytest.fixture
def asked(said: list[Mapping[str, Any]]) -> Iterator[list[Nccl]]:
    made: list[Nccl] = []
    yield made
    for each in made:
        each.end()


def ask(
    asked: list[Nccl], said: list[Mapping[str, Any]], source: str, *, timeout: float = 60.0, **env: str
) -> dict[str, Any]:
    order = AskNccl(python=sys.executable, env=env, removed=("SSH_CLIENT",), library="", timeout=timeout)
    asked.append(Nccl(msgspec.to_builtins(order), source))
    asked[-1].start()
    while not said:
        time.sleep(0.01)
    (answer,) = said
    return dict(answer["nccl"])


def test_a_child_that_answers_stands_still_and_holds_its_port(
    asked: list[Nccl], said: list[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CLIENT", "the run will not have it")
    assert ask(asked, said, ANSWERS, WANTED="10.0.0.7") == {
        "address": "10.0.0.7",
        "port": 40000,
        "missing": "",
    }
    assert asked[0].holds
    asked[0].end()
    assert not asked[0].holds


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "ended by signal 11"),
        ("import sys\nsys.exit('no such symbol')", "ended with 1: no such symbol"),
        ("pass", "ended with 0"),
        ("this is no Python", "SyntaxError"),
    ],
)
def test_a_child_that_ends_is_unknown(
    asked: list[Nccl], said: list[Mapping[str, Any]], source: str, why: str
) -> None:
    assert why in ask(asked, said, source)["unknown"]
    assert not asked[0].holds


def test_a_child_that_hangs_is_unknown_and_ends(asked: list[Nccl], said: list[Mapping[str, Any]]) -> None:
    answer = ask(asked, said, "import time\ntime.sleep(1000)", timeout=0.2)
    assert answer == {"unknown": "libnccl has not answered within 0.2 s"}
    assert asked[0].child is not None
    asked[0].child.wait(60)


def test_an_interpreter_that_is_not_there_is_unknown(said: list[Mapping[str, Any]]) -> None:
    order = AskNccl(python="/nowhere/python", env={}, removed=(), library="", timeout=5.0)
    Nccl(msgspec.to_builtins(order), ANSWERS).ask()
    assert "could not be asked" in said[0]["nccl"]["unknown"]


@WITHOUT
def test_a_host_without_libnccl_says_so(asked: list[Nccl], said: list[Mapping[str, Any]]) -> None:
    answer = ask(asked, said, CHILD, LD_LIBRARY_PATH="")
    assert decode_nccl(answer).missing.startswith("no libnccl beside this Python's packages")


@WITHOUT
def test_a_libnccl_that_does_not_load_is_unknown(
    asked: list[Nccl], said: list[Mapping[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "libnccl.so.2").write_text("half a download")
    answer = ask(asked, said, CHILD, LD_LIBRARY_PATH=str(tmp_path))
    assert answer["unknown"].startswith("libnccl does not load: ")


def test_the_users_own_meeting_point_is_no_choice_of_libnccls(
    asked: list[Nccl], said: list[Mapping[str, Any]]
) -> None:
    assert "NCCL_COMM_ID" in ask(asked, said, CHILD, NCCL_COMM_ID="10.0.0.1:4000")["missing"]


def test_the_loader_is_asked_which_libnccl_torch_gets(tmp_path: Path) -> None:
    """In the place of torch a library that needs one, beside which it lies."""
    if subprocess.run(["gcc", "--version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no compiler")
    near, first = tmp_path / "near", tmp_path / "first"
    for folder in (near, first):
        folder.mkdir()
        build = ["gcc", "-shared", "-x", "c", "/dev/null", "-Wl,-soname,libnccl.so.2"]
        subprocess.run([*build, "-o", str(folder / "libnccl.so.2")], check=True)
    torch = tmp_path / "libtorch_cuda.so"
    path = "-Wl,--no-as-needed,--enable-new-dtags,-rpath,$ORIGIN/near"
    needing = ["gcc", "-shared", path, "-x", "c", "/dev/null", "-x", "none", f"{near}/libnccl.so.2"]
    subprocess.run([*needing, "-o", str(torch)], check=True)
    call = f"['by_loader']({str(torch)!r})"
    code = f"import runpy; print(runpy.run_path({nccl_child.__file__!r}){call})"
    for before, expected in (("", near), (str(first), first)):
        told = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "LD_LIBRARY_PATH": before},
            capture_output=True,
            text=True,
            check=True,
        )
        assert Path(told.stdout.strip()).samefile(expected / "libnccl.so.2")


def test_a_unique_id_holds_its_address_and_port() -> None:
    four = bytes(8) + (2).to_bytes(2, sys.byteorder) + b"\x9c\x40" + bytes([10, 9, 8, 7]) + bytes(112)
    assert nccl_child.address_in(four) == ("10.9.8.7", 40000, 0)
    scope = (3).to_bytes(4, sys.byteorder)
    six = bytes(8) + (10).to_bytes(2, sys.byteorder) + bytes(6) + bytes([0xFE, 0x80]) + bytes(14) + scope
    assert nccl_child.address_in(six + bytes(96)) == ("fe80::", 0, 3)
    assert nccl_child.address_in(bytes(128)) == ("", 0, 0)


def test_an_answer_that_says_nothing_is_unknown() -> None:
    assert decode_nccl({}).unknown == "libnccl's answer says nothing"
    assert decode_nccl({"address": 5}).unknown.startswith("address: ")
