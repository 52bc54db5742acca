"""The rooms and who may import whom: the table of docs/architecture.md, held by reading the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "clusterctl"
NODE = PACKAGE / "node"
FILES = sorted(PACKAGE.rglob("*.py"))

PURE = ("messages", "inventory", "facts", "network", "checks", "plan", "engines", "advise", "report")
EVERYWHERE = {"errors", "settings"}
# cli may import everything; node is held by a test of its own.
MAY_IMPORT = {
    "messages": set(),
    "inventory": set(),
    "facts": {"inventory"},
    "network": {"inventory", "facts"},
    "checks": {"inventory", "facts", "network", "transport.protocol"},
    "plan": {"inventory", "facts", "network"},
    "engines": {"plan"},
    "advise": {"messages", "plan", "inventory.fold", "store.outcome", "checks.finding"},
    "report": {*PURE, "store.outcome", "store.step", "store.sample"},
    "transport": set(),
    "ask": {"transport", "store", *PURE},
    "store": {"plan"},
    "run": {"ask", "transport", "store", *PURE},
    "sandbox": set(),
    "serve": {"session", *PURE},
    "session": {"run", "ask", "transport", "store", "sandbox", *PURE},
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


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every import and every call of a file: what most tests ask for."""
    wanted = (ast.Import, ast.ImportFrom, ast.Call)
    return tuple(node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, wanted))


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, at its top or inside a function; relative ones start with a dot."""
    for node in nodes(path):
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
    found = (node.func for node in nodes(path) if isinstance(node, ast.Call))
    return {function.id for function in found if isinstance(function, ast.Name)}


def test_every_room_is_in_the_table() -> None:
    assert {room(path) for path in FILES} == {*MAY_IMPORT, "cli", "node", ""}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_lies_before_it(path: Path) -> None:
    here = room(path)
    if here not in MAY_IMPORT:
        return
    allowed = MAY_IMPORT[here] | EVERYWHERE | {here}
    for name in imports(path):
        assert name != "clusterctl", "the package itself stands above all rooms"
        inner = name.removeprefix("clusterctl.")
        if inner != name and inner:
            assert any(inner == each or inner.startswith(f"{each}.") for each in allowed), name
        assert not name.startswith("."), f"{name}: a relative import hides which room is meant"


def test_no_two_files_import_each_other_by_any_way_round() -> None:
    """Imports inside functions and for types alone count, too."""
    modules = {".".join(("clusterctl", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in FILES}
    graph = {
        module: modules.intersection(imports(PACKAGE.parent / (module.replace(".", "/") + ".py"))) - {module}
        for module in modules
    }
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("name", PURE)
def test_a_pure_room_touches_nothing(name: str) -> None:
    for path in (PACKAGE / name).rglob("*.py"):
        assert not tops(path) & WORLD, path
        assert not calls(path) & {"open", "print", "input"}, path


def test_the_machine_has_no_clock_and_no_thread() -> None:
    for name in ("run/machine", "run/verdict", "run/cause", "store/outcome"):
        path = PACKAGE / f"{name}.py"
        assert not tops(path) & {"time", "threading", "logging", "os", "selectors", "subprocess"}, path


def test_the_server_s_libraries_are_known_to_one_room() -> None:
    users = {room(path) for path in FILES if tops(path) & {"starlette", "uvicorn", "anyio"}}
    assert users == {"serve"}


def test_fabric_and_paramiko_are_known_to_three_files() -> None:
    users = [path for path in FILES if tops(path) & {"fabric", "paramiko"}]
    assert users == [PACKAGE / "transport" / name for name in ("fabric.py", "identities.py", "login.py")]


def test_the_controller_never_imports_what_trains() -> None:
    for path in FILES:
        if room(path) != "node":
            assert not tops(path) & TRAINING, path


def test_the_controller_never_imports_what_runs_on_a_node() -> None:
    for path in FILES:
        if room(path) != "node":
            assert not [name for name in imports(path) if name.startswith("clusterctl.node")], path


def test_a_session_shows_nothing_and_ends_nothing() -> None:
    for path in (PACKAGE / "session").rglob("*.py"):
        assert not tops(path) & {"typer", "rich", "signal", "logging"}, path
        assert not calls(path) & {"print", "input", "exit"}, path
        assert "exit(" not in path.read_text().replace("__exit__(", ""), path


def test_the_package_s_names_are_loaded_when_used() -> None:
    script = "import sys, clusterctl as c; n = len(sys.modules); c.Cluster; print(n, len(sys.modules))"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    before, after = map(int, told.stdout.split())
    assert before < 150 < after


def test_every_public_name_is_there() -> None:
    import clusterctl

    assert all(getattr(clusterctl, name) is not None for name in clusterctl.__all__)
    assert {*clusterctl._HOMES, "__version__"} == set(clusterctl.__all__)


def test_only_verbs_print() -> None:
    for path in FILES:
        if room(path) not in ("cli", "node"):
            allowed = path == PACKAGE / "report" / "catalogue.py"
            assert allowed or "print" not in calls(path), path


@pytest.mark.parametrize("path", sorted(NODE.rglob("*.py")), ids=lambda path: str(path.relative_to(NODE)))
def test_a_node_file_stands_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    # A rank that ends hands on to the user's own sitecustomize; torch is looked at in a process of its own.
    assert tops(path) <= {*sys.stdlib_module_names, "psutil", "torch", "sitecustomize"}
    up = len(path.relative_to(NODE).parts)  # dots that lead to the top of the bundle
    assert not [name for name in imports(path) if name.startswith("." * (up + 1))]
    assert not [name for name in imports(path) if name.startswith("clusterctl")]
    at_import = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert not at_import & {"torch", "psutil"}, "only where it may be missing"


def node_imports(name: str) -> set[str]:
    """The node modules that one of them imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((NODE / f"{name.replace('.', '/')}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*name.split(".")[: -node.level], *filter(None, [node.module])]
            names = [".".join(base), *(".".join([*base, alias.name]) for alias in node.names)]
            found |= {each for each in names if (NODE / f"{each.replace('.', '/')}.py").is_file()}
    return found


@pytest.mark.parametrize("bundle", ["sweep", "clean", "top", "relay"])
def test_what_travels_to_a_host_has_all_that_it_imports(bundle: str) -> None:
    from clusterctl.ask import clean, sweep, top
    from clusterctl.run.relay_bundle import RELAY, RELAY_FILES

    programs = {"sweep": sweep._NODE_FILES, "clean": clean._NODE_FILES, "top": top._NODE_FILES}
    files = {name: (name, *parts) for name, parts in programs.items()}
    travels = {"shared.wire", *files.get(bundle, (RELAY, *RELAY_FILES))}
    for name in travels:
        assert node_imports(name) <= travels, name


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
    modules = found.stderr.split()
    loaded = {name.partition(".")[0] for name in modules}
    assert "clusterctl" in loaded
    assert not loaded & {"fabric", "paramiko", "invoke", "cryptography", "yaml", "asyncio", *TRAINING}
    assert not {name for name in modules if name.startswith(("rich.", "msgspec", "clusterctl.run"))}
    # Counted, because a clock on a busy machine proves nothing: each module costs about half a millisecond.
    assert len(modules) < 250


def test_a_launch_asks_its_hosts_before_it_loads_what_judges_and_supervises() -> None:
    script = "import sys, clusterctl.session.launch\nsys.stderr.write(' '.join(sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = {*found.stderr.split()}
    assert "clusterctl.ask.facts" in modules
    later = {"clusterctl.checks.evaluate", "clusterctl.session.run", "clusterctl.session.launch_config"}
    assert not modules & (later | {"jinja2", "paramiko", "clusterctl.report.html.charts"})


def test_a_launch_begins_to_log_in_before_it_loads_what_judges_and_supervises() -> None:
    script = (
        "import sys\n"
        "import clusterctl.cli.app, clusterctl.session.cluster, clusterctl.session.refused\n"
        "from clusterctl.transport import connect\n"
        "connect()\n"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = found.stderr.split()
    assert "paramiko" in modules
    assert not {name for name in modules if name.startswith(("clusterctl.run", "clusterctl.advise.lint"))}
    assert not {"invoke", "asyncio", "clusterctl.checks.evaluate", "clusterctl.session.launch"} & {*modules}
