"""The rooms and who may import whom: the table of docs/architecture.md, held by reading the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "clusterctl"
FILES = sorted(PACKAGE.rglob("*.py"))

PURE = ("inventory", "facts", "network", "checks", "plan", "engines", "report")
EVERYWHERE = {"errors", "settings"}
MAY_IMPORT = {
    "inventory": set(),
    "facts": {"inventory"},
    "network": {"inventory", "facts"},
    "checks": {"inventory", "facts", "network", "transport.protocol"},
    "plan": {"inventory", "facts", "network"},
    "engines": {"plan"},
    "report": {*PURE, "run.outcome"},
    "transport": set(),
    "ask": {"transport", "store", *PURE},
    "store": {"plan", "run.outcome"},
    "run": {"ask", "transport", "store", *PURE},
    "sandbox": set(),
}
WORLD = {
    "os",
    "socket",
    "subprocess",
    "time",
    "selectors",
    "threading",
    "tempfile",
    "shutil",
    "logging",
    "signal",
}
TRAINING = {"torch", "deepspeed", "transformers", "datasets", "tokenizers"}


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, at its top or inside a function; relative ones start with a dot."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield base
            if node.module == "clusterctl" or (node.module or "").startswith("clusterctl"):
                yield from (f"{base}.{alias.name}" for alias in node.names)


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path) if not name.startswith(".")}


def calls(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_lies_before_it(path: Path) -> None:
    here = room(path)
    if here not in MAY_IMPORT:
        return
    allowed = MAY_IMPORT[here] | EVERYWHERE | {here}
    for name in imports(path):
        inner = name.removeprefix("clusterctl.")
        if inner != name and inner:
            assert any(inner == each or inner.startswith(f"{each}.") for each in allowed), name


@pytest.mark.parametrize("name", PURE)
def test_a_pure_room_touches_nothing(name: str) -> None:
    for path in (PACKAGE / name).rglob("*.py"):
        assert not tops(path) & WORLD, path
        assert not calls(path) & {"open", "print", "input"}, path


def test_the_machine_has_no_clock_and_no_thread() -> None:
    for name in ("machine", "cause", "outcome"):
        path = PACKAGE / "run" / f"{name}.py"
        assert not tops(path) & {"time", "threading", "logging", "os", "selectors", "subprocess"}, path


def test_fabric_and_paramiko_are_known_to_one_file() -> None:
    users = [path for path in FILES if tops(path) & {"fabric", "paramiko"}]
    assert users == [PACKAGE / "transport" / "fabric.py"]


def test_the_controller_never_imports_what_trains() -> None:
    for path in FILES:
        if room(path) != "node":
            assert not tops(path) & TRAINING, path


def test_only_verbs_print() -> None:
    for path in FILES:
        if room(path) not in ("cli", "node"):
            allowed = path == PACKAGE / "report" / "catalogue.py"
            assert allowed or "print" not in calls(path), path


def test_node_files_stand_alone() -> None:
    for path in (PACKAGE / "node").glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 8))
        foreign = {
            name
            for name in tops(path)
            if name not in sys.stdlib_module_names and name not in {"psutil", "torch"}
        }
        assert foreign <= {"sitecustomize"}, path
        at_import = {
            alias.name
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert "torch" not in at_import, path


def test_the_workloads_know_nothing_of_clusterctl() -> None:
    for path in (ROOT / "train").rglob("*.py"):
        assert "clusterctl" not in tops(path), path


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    names = {path.stem for path in FILES} | {path.name for path in PACKAGE.iterdir()}
    assert not names & {"utils", "util", "helpers", "misc", "common"}


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['clusterctl', '--help']\n"
        "from clusterctl.cli.main import entry\n"
        "try: entry()\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in found.stderr.split()}
    assert "clusterctl" in loaded
    assert not loaded & {"fabric", "paramiko", "invoke", "cryptography", "yaml", "asyncio", *TRAINING}
