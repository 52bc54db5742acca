"""How a command ends: one place turns every error into text and an exit code."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from clusterctl.cli.fault import explain
from clusterctl.errors import ClusterctlError, NoAnswerError, UsageError


def call(tmp_path: Path, *words: str, code: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """`clusterctl WORDS` in a directory with a hostfile; ``code`` runs before it."""
    (tmp_path / "hostfile").write_text("nowhere.invalid slots=1\n")
    script = f"{code}\nimport sys\nfrom clusterctl.cli.main import entry\nentry()"
    return subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=tmp_path,
        env={**os.environ, "CLUSTERCTL_HOME": str(tmp_path / "home"), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "error",
    [
        "KeyError('x')",
        "MemoryError()",
        "RecursionError('deep')",
        "UnicodeDecodeError('utf-8', b'x', 0, 1, 'r')",
    ],
)
def test_an_unexpected_exception_is_one_line_and_a_private_file(tmp_path: Path, error: str) -> None:
    code = f"import clusterctl.store.runs as runs\ndef fail(): raise {error}\nruns.all_runs = fail"
    told = call(tmp_path, "runs", code=code)
    assert told.returncode == 125
    first, second = told.stderr.splitlines()
    assert first.startswith(f"error: clusterctl itself failed: {error.partition('(')[0]}")
    path = Path(second.removeprefix("hint: the details are in ").partition(";")[0])
    assert path.parent == tmp_path / "home" / "faults"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "Traceback" in path.read_text() and "in fail" in path.read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("launch --engine horovod", "invalid value for '--engine': 'horovod' is not one of"),
        ("launch --nodes x", "invalid value for '--nodes' / '-n'"),
        ("launch -H '' train.py", "--hostfile was given an empty text\n"),
        ("launch '' --steps 3", "SCRIPT is an empty text\n"),
        ("nosuchverb", "no such command 'nosuchverb'\n"),
    ],
)
def test_wrong_words_are_an_error_and_a_hint(tmp_path: Path, words: str, said: str) -> None:
    told = call(tmp_path, *shlex.split(words))
    assert (told.returncode, told.stdout) == (64, "")
    assert told.stderr.startswith(f"error: {said}")
    assert told.stderr.splitlines()[1].startswith("hint: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [("doctor --nodes x", "a whole number"), ("runs --limit 0", "greater than or equal to 1")],
)
def test_no_sentence_of_a_library_is_shown(tmp_path: Path, words: str, said: str) -> None:
    told = call(tmp_path, *words.split()).stderr
    assert said in told or "is not" in told  # as older versions say it
    assert "Input should" not in told and "parse" not in told


@pytest.mark.parametrize("name", [".", "absent/hostfile"])
def test_a_hostfile_that_cannot_be_written_is_told_before_any_host_is_asked(
    tmp_path: Path, name: str
) -> None:
    told = call(tmp_path, "init", "-o", str(tmp_path / name), "--force", "nohost.invalid")
    assert told.returncode == 64
    assert "asking" not in told.stderr
    assert "-o" in told.stderr.splitlines()[-1]


def test_what_this_machine_refuses_is_named_with_its_path(tmp_path: Path) -> None:
    error = "PermissionError(13, 'Permission denied', '/some/where')"
    code = f"import clusterctl.store.runs as runs\ndef fail(): raise {error}\nruns.all_runs = fail"
    told = call(tmp_path, "runs", code=code)
    assert told.returncode == 125
    assert told.stderr.startswith("error: Permission denied: /some/where\nhint: ")


def test_the_details_lie_elsewhere_when_the_home_cannot_hold_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    said = explain(ValueError("two\nlines"), "1", "launch")
    assert said.message == "clusterctl itself failed: ValueError: two lines"
    (path,) = tmp_path.glob("clusterctl-fault-*.txt")
    assert str(path) in said.hint and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_details_that_can_be_written_nowhere_are_no_second_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    assert "could not be written" in explain(ValueError("x"), "1", "").hint


@pytest.mark.parametrize("verb", [["runs"], ["launch", "train.py"], ["sandbox", "up"]])
def test_a_home_that_is_a_file_is_named_with_what_to_do(tmp_path: Path, verb: list[str]) -> None:
    (tmp_path / "train.py").write_text("")
    (tmp_path / "file").write_text("")
    told = call(tmp_path, *verb, CLUSTERCTL_HOME=str(tmp_path / "file"))
    assert told.returncode == 125, told.stderr
    lines = told.stderr.splitlines()
    assert lines[0].startswith("error: clusterctl cannot keep its ") and str(tmp_path / "file") in lines[0]
    assert lines[1].startswith("hint: choose another directory of your own: export CLUSTERCTL_HOME=")


def test_each_error_knows_its_exit_code() -> None:
    assert [each.exit_code for each in (ClusterctlError, UsageError, NoAnswerError)] == [125, 64, 1]


def test_no_host_that_answers_is_nobody_s_fault(tmp_path: Path) -> None:
    told = call(tmp_path, "init", "nowhere.invalid", "-o", "new")
    assert told.returncode == 1, told.stderr
    assert "no host answered" in told.stderr and not (tmp_path / "new").exists()


def test_the_exit_codes_are_in_the_help(tmp_path: Path) -> None:
    assert "Exit codes: 0 done" in call(tmp_path, "--help").stdout


IN_AN_EXEC = "exec('import os, signal; os.kill(os.getpid(), signal.SIGINT)')"
"""As when Ctrl-C comes while a module makes a dataclass: python remembers such an interrupt to its end."""


def test_an_interrupt_that_was_handled_does_not_kill_the_program_in_the_end(tmp_path: Path) -> None:
    code = (
        "from clusterctl.cli import runs\n"
        "def all_runs():\n"
        f"    try: {IN_AN_EXEC}\n"
        "    except KeyboardInterrupt: return []\n"
        "runs._views = all_runs"
    )
    told = call(tmp_path, "runs", code=code)
    assert (told.returncode, told.stderr, "clusterctl launch" in told.stdout) == (0, "", True)


@pytest.mark.parametrize(
    "code",
    [
        f"from clusterctl.cli import runs\ndef fail(): {IN_AN_EXEC}\nruns._views = fail",
        f"from clusterctl.cli import runs, screen\ndef fail(error): {IN_AN_EXEC}\n"
        "def refuse(): raise OSError(1, 'no')\nruns._views, screen.print_error = refuse, fail",
        "import sys\nclass Loading:\n"
        f"    def find_spec(self, name, *_): name == 'clusterctl.cli.app' and {IN_AN_EXEC}\n"
        "sys.meta_path.insert(0, Loading())",
    ],
    ids=["in a verb", "in the words about an error", "while it is loaded"],
)
def test_an_interrupt_is_130_wherever_it_comes(tmp_path: Path, code: str) -> None:
    told = call(tmp_path, "runs", code=code)
    assert (told.returncode, told.stderr) == (130, "")


def test_an_interrupt_while_hosts_are_looked_at_says_that_nothing_runs(tmp_path: Path) -> None:
    code = f"from clusterctl.session.cluster import Cluster\ndef fail(*_, **__): {IN_AN_EXEC}\n"
    told = call(tmp_path, "launch", "t.py", code=code + "Cluster.open_run = fail")
    assert (told.returncode, told.stderr) == (130, "interrupted: nothing was started\n")


def test_no_interrupt_changes_an_exit_code_that_is_known(tmp_path: Path) -> None:
    begin = "import atexit, os, signal, threading, time\nfrom clusterctl.cli import interrupts, runs\n"
    interrupt = "os.kill(os.getpid(), signal.SIGINT)"
    settle = "interrupts.settle_exit_code(123, signal.getsignal(signal.SIGINT))"
    verb = f"def views(): {settle}; {interrupt}\nruns._views = views"
    assert call(tmp_path, "runs", code=begin + verb).returncode == 123
    at_exit = f"@atexit.register\ndef late(): {interrupt}"
    assert call(tmp_path, "--version", code=begin + at_exit).returncode == 0
    five_times = (
        "def late():\n"
        "    threading.main_thread().join()\n"
        f"    for _ in range(5): {interrupt}; time.sleep(0.01)\n"
        "threading.Thread(target=late).start()"
    )
    told = call(tmp_path, "runs", "nonsense", code=begin + five_times)
    assert (told.returncode, "Traceback" in told.stderr) == (64, False)


@pytest.mark.parametrize("when", ["clusterctl.cli.main", "clusterctl.errors", "typer", "clusterctl.cli.app"])
def test_ctrl_c_is_silent_from_the_first_module_on(when: str) -> None:
    """Pressed after ``when`` has been loaded; the script is what pip makes of an entry point."""
    script = (
        "import builtins, signal, sys\n"
        "original = builtins.__import__\n"
        "def load(name, *args, **kwargs):\n"
        "    known = name in sys.modules\n"
        "    module = original(name, *args, **kwargs)\n"
        f"    if name == {when!r} and not known: signal.raise_signal(signal.SIGINT)\n"
        "    return module\n"
        "builtins.__import__ = load\n"
        "from clusterctl.cli.main import entry\n"
        "sys.exit(entry())"
    )
    argv = [sys.executable, "-c", script, "--version"]
    told = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (130, "", "")
