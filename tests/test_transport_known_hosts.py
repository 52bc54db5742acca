"""known_hosts as OpenSSH writes and reads it; ssh-keygen is asked to hash and to find."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from clusterctl.transport.known_hosts import KnownHosts, fingerprint

ED, RSA = "ssh-ed25519", "ssh-rsa"
KEY, OTHER = b"\0\0\0\x0bssh-ed25519 one", b"\0\0\0\x0bssh-ed25519 two"


def line(names: str, blob: bytes = KEY, key_type: str = ED, marker: str = "") -> str:
    return f"{marker} {names} {key_type} {base64.b64encode(blob).decode()} comment\n".lstrip()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ssh" / "known_hosts"


def known(file: Path, text: str) -> KnownHosts:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return KnownHosts([file])


@pytest.mark.parametrize(
    ("names", "asked", "verdict"),
    [
        ("gpu1", ["gpu1"], "known"),
        ("gpu1,10.0.0.1", ["10.0.0.1"], "known"),
        ("GPU1", ["gpu1"], "known"),
        ("gpu1", ["gpu2"], "unknown"),
        ("[gpu1]:2222", ["[gpu1]:2222", "gpu1"], "known"),
        ("[gpu1]:2222", ["gpu1"], "unknown"),
        ("gpu1", ["[gpu1]:2222", "gpu1"], "known"),
        ("*.lab,!bad.lab", ["gpu1.lab"], "known"),
        ("*.lab,!bad.lab", ["bad.lab"], "unknown"),
        ("[gpu?]:2222", ["[gpu1]:2222"], "known"),
        ("gpu[12]", ["gpu1"], "unknown"),
    ],
)
def test_which_entries_vouch_for_a_key(file: Path, names: str, asked: list[str], verdict: str) -> None:
    assert known(file, line(names)).judge(asked, ED, KEY)[0] == verdict


def test_another_key_of_the_same_type_is_a_change_and_names_its_line(file: Path) -> None:
    verdict, entry = known(file, "# top\n" + line("gpu1")).judge(["gpu1"], ED, OTHER)
    assert verdict == "changed"
    assert entry is not None
    assert (entry.file, entry.line) == (file, 2)


def test_an_entry_without_the_port_cannot_make_a_key_changed(file: Path) -> None:
    assert known(file, line("gpu1")).judge(["[gpu1]:2222", "gpu1"], ED, OTHER)[0] == "unknown"


def test_a_key_of_another_type_only_is_unknown_but_mentioned(file: Path) -> None:
    verdict, entry = known(file, line("gpu1", b"rsa", RSA)).judge(["gpu1"], ED, KEY)
    assert verdict == "unknown"
    assert entry is not None
    assert entry.key_type == RSA


def test_revoked_wins_over_known(file: Path) -> None:
    table = known(file, line("gpu1") + line("*", marker="@revoked"))
    assert table.judge(["gpu1"], ED, KEY)[0] == "revoked"
    assert table.judge(["gpu1"], ED, OTHER)[0] == "changed"


def test_a_certificate_authority_is_no_host_key(file: Path) -> None:
    table = known(file, line("*.lab", marker="@cert-authority"))
    assert table.judge(["gpu1.lab"], ED, KEY)[0] == "authority"
    assert table.key_types(["gpu1.lab"]) == ()


def test_entries_hashed_by_openssh_are_found(file: Path) -> None:
    known(file, line("gpu1") + line("[gpu2]:2222"))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert "gpu1" not in file.read_text()
    table = KnownHosts([file])
    assert table.judge(["gpu1"], ED, KEY)[0] == "known"
    assert table.judge(["[gpu2]:2222"], ED, OTHER)[0] == "changed"
    assert table.judge(["gpu3"], ED, KEY)[0] == "unknown"


@pytest.mark.parametrize("hashed", [False, True])
def test_an_added_key_is_found_by_openssh_too(file: Path, hashed: bool) -> None:
    table = KnownHosts([file])
    table.add(file, "[gpu1]:2222", ED, KEY, hashed=hashed)
    table.add(file, "[gpu1]:2222", ED, KEY, hashed=hashed)
    assert table.judge(["[gpu1]:2222"], ED, KEY)[0] == "known"
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(file.read_text().splitlines()) == 1
    found = subprocess.run(
        ["ssh-keygen", "-F", "[gpu1]:2222", "-f", str(file)], check=False, capture_output=True
    )
    assert found.returncode == 0


def test_a_file_without_final_newline_is_not_damaged(file: Path) -> None:
    table = known(file, line("gpu1").rstrip("\n"))
    table.add(file, "gpu2", ED, OTHER, hashed=False)
    assert KnownHosts([file]).judge(["gpu1"], ED, KEY)[0] == "known"
    assert KnownHosts([file]).judge(["gpu2"], ED, OTHER)[0] == "known"


def test_missing_files_and_broken_lines_are_passed_over(file: Path) -> None:
    table = known(file, "gpu1\ngpu1 ssh-ed25519 not*base64\n|1|x ssh-ed25519 AAAA\n" + line("gpu1"))
    assert table.judge(["gpu1"], ED, KEY)[0] == "known"
    assert KnownHosts([file.with_name("absent")]).judge(["gpu1"], ED, KEY) == ("unknown", None)


def test_the_fingerprint_is_openssh_s(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "k")], check=True)
    blob = base64.b64decode((tmp_path / "k.pub").read_text().split()[1])
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(tmp_path / "k.pub")], capture_output=True, text=True, check=True
    )
    assert fingerprint(blob) in shown.stdout
