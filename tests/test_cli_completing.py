"""TAB: where the cursor stands, what may come there, and a real shell in a terminal that is told so."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clusterctl.cli.completing import grammar as grammars
from clusterctl.cli.completing.answer import lines
from clusterctl.cli.completing.grammar import Option, Verb
from clusterctl.cli.completing.position import Position, position

GRAMMAR = {
    "": Verb("", (Option(("--version",), "", (), False, "Print it."),)),
    "launch": Verb(
        "Train.",
        (
            Option(("--hostfile", "-H"), "FILE", (), False, "Hosts."),
            Option(("--nodes", "-n", "--num-nodes"), "N", (), False, "So many."),
            Option(("--engine",), "VALUE", ("torchrun", "deepspeed"), False, "Who."),
            Option(("--env",), "K=V", (), True, "One."),
            Option(("--force",), "", (), False, "Go on."),
        ),
        ("[SCRIPT [ARGS]...]",),
        rest=True,
        mixed=False,
        dashes=True,
    ),
    "logs": Verb("Show.", (Option(("--follow", "-f"), "", (), False, ""),), ("[RUN]",)),
    "sandbox": Verb("Virtual hosts."),
    "sandbox up": Verb("Bring them up."),
    "sandbox down": Verb("End them."),
}


def at(line: str) -> Position:
    *words, begun = line.split(" ")
    return position(GRAMMAR, words, begun)


def offered(line: str) -> list[str]:
    return [word for word, _ in at(line).choices]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("l", ["launch", "logs"]),
        ("sandbox ", ["up", "down"]),
        ("--v", ["--version"]),
        ("launch --", ["--hostfile", "--nodes", "--engine", "--env", "--force"]),
        ("launch --num", ["--num-nodes"]),
        ("launch --force --nodes 2 --env A=1 --", ["--hostfile", "--engine", "--env"]),
        ("launch --engine d", ["deepspeed"]),
        ("launch --engine=t", ["torchrun"]),
        ("logs x ", ["--follow"]),
        ("launch train.py --fo", []),
        ("nix ", []),
        ("nix --v", []),
    ],
)
def test_words_that_may_come(line: str, words: list[str]) -> None:
    assert offered(line) == words


def test_values_by_what_help_calls_them() -> None:
    assert at("launch -H ").metavar == "FILE"
    assert at("launch -Hlab -n 2 ").given == (("--hostfile", "lab"), ("--nodes", "2"))
    assert at("launch --hostfile=la")[1:4] == ("la", "--hostfile=", "FILE")
    assert at("launch --num_nodes ").metavar == "N"
    assert at("launch train.py x").metavar == "[SCRIPT [ARGS]...]"
    assert at("launch -- -x").metavar == "[SCRIPT [ARGS]...]"
    assert at("logs -f 20").metavar == "[RUN]"


class Asked:
    """The program as a shell asks it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("CLUSTERCTL_")},
            "CLUSTERCTL_HOME": str(folder / "home"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "HOME": str(folder),
        }
        for run in ("20260101-120000-abcd", "20260203-120000-ef01"):
            (folder / "home/runs" / run).mkdir(parents=True)
            nodes = [{"host": "gpu1", "ranks": [0, 1]}, {"host": "gpu2", "ranks": [2]}]
            (folder / "home/runs" / run / "plan.json").write_text(json.dumps({"nodes": nodes}))
        (folder / "hosts").write_text("node1 slots=2\nnode2 slots=2\n")

    def __call__(self, *words: str, by: str = "fish", **env: str) -> list[str]:
        environ = {**self.env, "_CLUSTERCTL_COMPLETE": by, **env}
        with pytest.MonkeyPatch.context() as patch:
            for name in set(os.environ) - set(environ):
                patch.delenv(name)
            for name, value in environ.items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            return [line.partition("\t")[0] for line in lines(environ, words)]

    def bash(self, line: str) -> list[str]:
        breaks = " \t\n\"'@><=;|&(:"
        return self(by="bash", COMP_LINE=line, COMP_POINT=str(len(line)), COMP_WORDBREAKS=breaks)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return Asked(tmp_path_factory.mktemp("asked"))


def test_what_this_machine_knows_is_offered(asked: Asked) -> None:
    assert asked("logs", "2") == ["words", "20260203-120000-ef01", "20260101-120000-abcd"]
    assert asked("launch", "-H", "hosts", "-i", "node1@") == ["words", "node1@node2"]
    assert asked("logs", "20260101", "--host", "") == ["words", "gpu1", "gpu2"]
    assert asked("ssh", "2026020") == ["more", "20260203-120000-ef01:"]
    assert asked("py-spy", ":") == ["words", ":0", ":1", ":2"]
    assert asked("doctor", "--html", "") == ["files"]
    assert asked("launch", "--workdir", "") == ["dirs"]
    assert asked("checks", "net.mt") == ["words", "net.mtu"]


def test_bash_is_told_what_comes_behind_its_last_break(asked: Asked) -> None:
    assert asked.bash("clusterctl py-spy 20260203-120000-ef01:") == ["words", "0", "1", "2"]
    assert asked.bash("clusterctl launch --engine=t") == ["words", "torchrun"]
    assert asked.bash("clusterctl launch -H 'hosts' -i node1@") == ["words", "node2"]
    assert asked.bash("clusterctl launch --engine deep")[1:] == ["deepspeed"]
    assert asked.bash('clusterctl "lo')[1:] == ["logs"]


def test_names_that_a_shell_would_carry_out_are_not_offered(asked: Asked) -> None:
    (asked.folder / "odd").write_text("gpu$(reboot) slots=1\ngpu;reboot slots=1\ngpu3 slots=1\n")
    assert asked("launch", "-H", "odd", "-i", "gpu") in (["words", "gpu3"], ["words"])
    (asked.folder / "clusterctl.toml").write_text('[cluster.lab]\nhostfile = "hosts"\n')
    assert asked("doctor", "-c", "") == ["words", "lab"]
    assert asked("doctor", "--cluster=lab", "-i", "n") == ["words", "node1", "node2"]
    (asked.folder / "clusterctl.toml").write_text('[cluster."x$(reboot)"]\nhostfile = "hosts"\n')
    assert asked("doctor", "-c", "") == ["words"]


def test_what_cannot_be_read_is_no_word_and_no_error(asked: Asked) -> None:
    (asked.folder / "clusterctl.toml").write_text("[cluster.lab\n")
    assert asked("doctor", "-c", "") == ["words"]
    assert asked("launch", "-H", "missing", "-i", "") == ["words"]
    assert asked("logs", "none", "--host", "") == ["words"]
    assert asked("nix", "") == ["words"]
    assert asked(by="bash") == ["words"]
    command = [sys.executable, "-m", "clusterctl", "doctor", "-c", ""]
    env = {**asked.env, "_CLUSTERCTL_COMPLETE": "zsh"}
    told = subprocess.run(command, cwd=asked.folder, env=env, capture_output=True, check=True)
    assert (told.stdout, told.stderr) == (b"words\n", b"")
    (asked.folder / "clusterctl.toml").unlink()


def test_a_kept_grammar_is_that_of_the_program_and_spares_its_loading(asked: Asked) -> None:
    asked("l")
    kept = asked.folder / "cache/clusterctl/verbs.json"
    assert json.loads(kept.read_text())["verbs"] == json.loads(json.dumps(grammars.read()))
    script = (
        "import sys; sys.argv = ['clusterctl', 'launch', '--eng']\n"
        "from clusterctl.cli.main import entry\n"
        "try: entry()\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        env={**asked.env, "_CLUSTERCTL_COMPLETE": "zsh"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--engine:Who starts the ranks" in told.stdout
    modules = told.stderr.split()
    assert not {name for name in modules if name.startswith(("typer", "click", "msgspec", "rich"))}
    # Counted, because a clock on a busy machine proves nothing.
    assert len(modules) < 110
    kept.write_text("{")
    assert asked("lo") == ["words", "logs"]


RC = {
    "bash": ".bashrc",
    "zsh": ".zshrc",
}


def typed(argv: list[str], env: dict[str, str], cwd: Path, keys: list[str], end: str) -> str:
    """What a terminal has shown until ``end``; each of ``keys`` is typed at a prompt."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvpe(argv[0], argv, env)
    seen, prompts = "", 0
    limit = time.monotonic() + 120
    try:
        while end not in seen and time.monotonic() < limit:
            if keys and seen.count("READY> ") > prompts:
                prompts = seen.count("READY> ")
                os.write(terminal, keys.pop(0).encode())
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 65536).decode(errors="replace")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    return seen


@pytest.mark.parametrize("shell", list(RC))
def test_a_new_shell_has_it_once_it_is_installed(asked: Asked, shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    start = asked.folder / RC[shell]
    start.write_text("PS1='READY> '")
    install = [sys.executable, "-m", "clusterctl", "completion", shell, "--install"]
    env = {**asked.env, "TERM": "xterm", "COLUMNS": "80"}
    told = subprocess.run(install, env=env, capture_output=True, text=True, check=True)
    assert f"wrote ~/{RC[shell]}" in told.stdout
    again = subprocess.run(install, env=env, capture_output=True, text=True, check=True)
    assert RC[shell] not in again.stdout
    assert start.read_text().count("clusterctl completion") == 1
    seen = typed([program, "-i"], env, asked.folder, ["clusterctl why 20260203\t"], "20260203-120000-ef01")
    assert "20260203-120000-ef01" in seen


def test_the_fish_script_goes_where_fish_looks(asked: Asked) -> None:
    command = [sys.executable, "-m", "clusterctl", "completion", "fish", "--install"]
    subprocess.run(command, env=asked.env, capture_output=True, check=True)
    written = (asked.folder / "config/fish/completions/clusterctl.fish").read_text()
    assert "complete -c clusterctl" in written and "@PROGRAM@" not in written
