"""`clusterctl clean` on real hosts: what it says goes, and nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl.sandbox import HostSpec, Sandbox
from tests.conftest import MakeSandbox
from tests.integration.launching import PATIENCE, launch, start
from tests.integration.standin import without_torch

pytestmark = pytest.mark.sandbox
SCRIPT = """
import os, sys, time
if sys.argv[1] == "writes":
    open("result-%s.txt" % os.environ["RANK"], "w").write("x" * 100_000)
print("ready", flush=True)
time.sleep(float(sys.argv[2]))
"""


def clean(*words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "clusterctl", "clean", *words],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def copies(box: Sandbox) -> dict[str, set[str]]:
    """The runs of which something lies on each host."""
    return {
        host.name: {each.name for each in (host.home / ".clusterctl/node").glob("20*")} for host in box.hosts
    }


def test_what_goes_and_what_stays(make_sandbox: MakeSandbox, tmp_path: Path) -> None:
    box = make_sandbox([HostSpec("one"), HostSpec("two")])
    (tmp_path / "script.py").write_text(SCRIPT)
    standin = without_torch(box)

    def ended(*words: str) -> Path:
        found = launch(box, "script.py", *words, cwd=tmp_path, options=standin)
        assert found.code == 0, found.text
        return found.run

    wrote, plain = ended("writes", "0"), ended("plain", "0")
    names = {"wrote": wrote.name, "plain": plain.name}
    running = start(box, "script.py", "plain", "600", cwd=tmp_path, options=standin)
    try:
        running.wait_for_logs("ready", 2)
        going_on = running.run
        names["running"] = going_on.name
        before = copies(box)
        assert set(names.values()) <= before["one"], "each run left a copy to be removed"

        asked = (names["wrote"], names["plain"], names["running"])
        code, said = clean(*asked, "--dry-run")
        assert code == 0, said
        assert copies(box) == before
        assert plain.is_dir()
        assert "one: 1 run, " in said
        assert "would be freed" in said

        box.host("two").stop_sshd()
        code, said = clean(names["plain"])
        assert code == 1, said
        assert "two gave no answer" in said
        assert plain.is_dir(), "to be cleaned later"
        rest = {names["wrote"], names["running"]}
        assert copies(box) == {"one": rest, "two": rest | {names["plain"]}}

        box.host("two").start_sshd()
        code, said = clean(*asked)
        assert code == 0, said
        assert "it is running: clusterctl stop" in said
        assert "were never pulled" in said
        assert copies(box) == {"one": rest, "two": rest}
        assert [each.exists() for each in (wrote, plain, going_on)] == [True, False, True]
        assert running.process.poll() is None

        code, said = clean(names["wrote"], "--outputs")
        assert code == 0, said
        assert not wrote.exists()
        assert copies(box) == {"one": {names["running"]}, "two": {names["running"]}}
    finally:
        running.signal(signal.SIGINT)
        running.finish()
    assert running.code == 123, running.text
