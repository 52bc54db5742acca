"""`clusterctl checks`, and doctor's choice of checks: what is typed wrong ends before any host is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clusterctl.checks.families import RULES
from tests.test_cli_main import call


def test_all_checks_are_listed_under_their_families(tmp_path: Path) -> None:
    done = call(tmp_path, "checks")
    assert done.returncode == 0, done.stderr
    words = set(done.stdout.split())
    assert {rule.code for rule in RULES} <= words
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_one_check_is_shown_with_what_it_leads_to_and_its_fix(tmp_path: Path) -> None:
    done = call(tmp_path, "checks", "os.reboot")
    assert "looks at  a reboot that an upgrade has asked for" in done.stdout
    assert "fix       sudo reboot" in done.stdout


def test_a_family_alone(tmp_path: Path) -> None:
    told = call(tmp_path, "checks", "ib").stdout.split()
    assert "ib.gid" in told and "gpu.ecc" not in told


@pytest.mark.parametrize(
    "words",
    [
        ("checks", "gpu.sim"),
        ("doctor", "--only", "gpu.sim"),
        ("doctor", "--skip", "os.rebot=later"),
        ("doctor", "--skip", "os.reboot"),
    ],
)
def test_wrong_codes_are_wrong_usage(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = call(tmp_path, *words)
    assert done.returncode == 64
    assert "hint:" in done.stderr and "Traceback" not in done.stderr


def test_what_is_left_out_is_in_the_report_with_its_reason(tmp_path: Path) -> None:
    done = call(tmp_path, "doctor", "--json", "--only", "ssh,env", "--skip", "ssh.reach=it is off")
    report = json.loads(done.stdout)
    reasons = {check["code"]: check["reason"] for check in report["checks"] if check["status"] == "skip"}
    assert reasons["ssh.reach"] == "it is off (--skip)"
    assert reasons["gpu.ecc"] == "not asked for (--only)"
    assert report["hosts"]["nowhere.invalid"]["verdict"] != "ready"
    assert done.returncode == 2
