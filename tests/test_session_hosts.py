"""Which hostfile serves when: the order of defaults, and what is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterctl.cli import options, sweep
from clusterctl.errors import NoHostsError, UsageError
from clusterctl.session.hosts import resolve


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory, no variables, no sandbox."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CLUSTERCTL_HOSTFILE", raising=False)
    monkeypatch.delenv("CLUSTERCTL_SSH_CONFIG", raising=False)
    return tmp_path


def write(path: Path, text: str = "a slots=2\nb slots=1\n") -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_option_wins_over_the_variable_and_that_over_the_directory(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bare / "hostfile")
    assert resolve(None).how == "hosts: hostfile (2 hosts, 3 slots)"
    monkeypatch.setenv("CLUSTERCTL_HOSTFILE", str(write(bare / "second", "c slots=1\n")))
    assert resolve(None).inventory.names == ("c",)
    assert resolve(write(bare / "third", "d slots=1\n")).inventory.names == ("d",)


def test_a_selection_is_told(bare: Path) -> None:
    write(bare / "hostfile")
    assert resolve("", include="a:1").how == "hosts: hostfile (1 of 2 hosts, 1 slot)"


def test_no_hostfile_is_an_error_that_says_where_it_looked() -> None:
    with pytest.raises(UsageError) as caught:
        resolve(None)
    for place in ("-H", "$CLUSTERCTL_HOSTFILE", "./hostfile", "/job/hostfile"):
        assert place in caught.value.message
    assert "clusterctl init" in caught.value.hint
    assert "clusterctl sandbox up" in caught.value.hint
    assert max(len(f"error: {caught.value.message}"), len(f"hint: {caught.value.hint}")) <= 80


def test_who_has_no_hosts_hears_that_before_anything_else() -> None:
    with pytest.raises(NoHostsError):
        sweep.command()  # pytest's stdin is no terminal


def test_a_part_of_an_id_is_not_taken_for_a_run_that_left_nothing(bare: Path) -> None:
    write(bare / "hostfile")
    with pytest.raises(UsageError, match="not the whole id"):
        sweep.command(["20260101-1200"], yes=True)


def test_a_named_file_that_is_missing_is_never_replaced_by_a_default(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bare / "hostfile")
    with pytest.raises(UsageError, match="absent does not exist"):
        resolve("absent")
    monkeypatch.setenv("CLUSTERCTL_HOSTFILE", "gone")
    with pytest.raises(UsageError, match=r"gone \(from \$CLUSTERCTL_HOSTFILE\) does not exist"):
        resolve(None)


def test_files_that_are_no_text(bare: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        resolve(bare)
    (bare / "file").write_text("")
    with pytest.raises(UsageError, match="file/hostfile cannot be read: Not a directory"):
        resolve(bare / "file/hostfile")
    (bare / "utf16").write_text("a slots=1\n", encoding="utf-16")
    with pytest.raises(UsageError, match="not plain text"):
        resolve(bare / "utf16")


def test_the_ssh_config_comes_from_the_option_or_the_variable(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bare / "hostfile")
    assert resolve(None).ssh_config is None
    monkeypatch.setenv("CLUSTERCTL_SSH_CONFIG", "/from/variable")
    assert resolve(None).ssh_config == Path("/from/variable")
    assert resolve(None, ssh_config="/from/option").ssh_config == Path("/from/option")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("90", 90), ("1.5s", 1.5), ("250ms", 0.25)],
)
def test_durations(text: str, seconds: float) -> None:
    assert options.seconds(text, "--timeout") == seconds


@pytest.mark.parametrize("text", ["", "soon", "5x", "s", "-5s", "0s", "5 s", "5s3"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match="--timeout"):
        options.seconds(text, "--timeout")
