"""What a rank imports first: it must show its stacks, and the script must notice nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusterctl.ask.bundle import read_node_files
from clusterctl.node.observe.debug_server import ask
from clusterctl.node.run.directory import NodeDirectory
from clusterctl.node.run.rank import rank_environment
from tests.node_run import PYTHON, other_python, wait_until

SIGNAL = signal.SIGRTMIN + 5
TORCH = {
    "__init__.py": "from torch import distributed",
    "distributed/__init__.py": "from torch.distributed import distributed_c10d",
    "distributed/distributed_c10d.py": "import torch._C._distributed_c10d as c; here = __spec__.loader",
    "_C/__init__.py": "",
    "_C/_distributed_c10d.py": "",
}


class Site:
    """A rank's environment, with ``stacks`` for what it shows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stacks = folder / "stacks"
        self.stacks.mkdir(mode=0o700)
        (folder / "site").mkdir()
        (folder / "own").mkdir()
        (folder / "site/sitecustomize.py").write_text(
            read_node_files(("run.sitecustomize",))["run.sitecustomize"]
        )

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.folder / "own" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def environment(self, *, armed: bool = True) -> dict[str, str]:
        path = os.pathsep.join([str(self.folder / "site")] * armed + [str(self.folder / "own")])
        return {"PATH": os.environ["PATH"], "PYTHONPATH": path, "CLUSTERCTL_STACKS": str(self.stacks)}

    def start(self, script: str, python: str = PYTHON, *, armed: bool = True) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [python, "-c", script],
            env=self.environment(armed=armed),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, python: str = PYTHON, *, armed: bool = True) -> str:
        child = self.start(script, python, armed=armed)
        out, err = child.communicate()
        assert (child.returncode, err) == (0, "")
        return out


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def pythons() -> list[str]:
    oldest = other_python()
    return [PYTHON, *([oldest] if oldest else [])]


@pytest.mark.parametrize("python", pythons())
def test_a_signal_has_all_stacks_written(site: Site, python: str) -> None:
    script = "def stuck():\n    print('in', flush=True)\n    input()\nstuck()\nprint('out')"
    child = site.start(script, python)
    assert child.stdout
    assert child.stdout.readline() == "in\n"
    path = site.stacks / f"{child.pid}.stacks"
    os.kill(child.pid, SIGNAL)
    wait_until(lambda: "in <module>" in path.read_text())
    assert "in stuck" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    out, err = child.communicate("\n")
    assert (out, err, child.returncode) == ("out\n", "", 0)


SEEN = """
import json, os, sys
descriptors = sorted(int(each) for each in os.listdir('/proc/self/fd'))
print(json.dumps({
    'modules': sorted(sys.modules), 'path': sys.path, 'environ': dict(os.environ),
    'descriptors': [each for each in descriptors if each < 200], 'hook': sys.excepthook is sys.__excepthook__,
    'finders': [str(type(each)) for each in sys.meta_path if 'AfterTorch' not in str(type(each))],
}))
"""


@pytest.mark.parametrize("python", pythons())
def test_the_script_sees_what_it_would_see_by_hand(site: Site, python: str) -> None:
    armed, bare = (json.loads(site.run(SEEN, python, armed=each)) for each in (True, False))
    bare["environ"].pop("CLUSTERCTL_STACKS")
    more = set(armed.pop("modules")) - set(bare.pop("modules"))
    assert more <= {"sitecustomize", "faulthandler", "fcntl", "_signal"}, "each costs every rank its import"
    assert armed == bare


def test_children_show_nothing_and_are_as_they_would_be(site: Site) -> None:
    script = (
        "import subprocess, sys, os\n"
        "child = 'import signal; print(open(\"/proc/self/status\").read())'\n"
        "print(subprocess.run([sys.executable, '-c', child], capture_output=True, text=True).stdout)"
    )
    status = dict(line.split(":", 1) for line in site.run(script).splitlines() if ":" in line)
    assert not int(status["SigCgt"], 16) >> (SIGNAL - 1) & 1
    assert len(list(site.stacks.iterdir())) == 1


def test_the_sitecustomize_of_the_user_runs_too(site: Site) -> None:
    site.write({"sitecustomize.py": "import builtins; builtins.mine = 5"})
    assert site.run("print(mine)") == "5\n"


def test_what_main_defines_can_be_pickled(site: Site) -> None:
    script = "import pickle\nclass Batch: pass\nprint(type(pickle.loads(pickle.dumps(Batch()))).__module__)"
    assert site.run(script) == "__main__\n"


def test_where_nothing_can_be_written_the_script_runs_all_the_same(site: Site) -> None:
    site.stacks.rmdir()
    assert site.run("import signal; print(signal.getsignal(signal.SIGRTMIN + 5))") == "0\n"


def test_a_torch_without_the_server_is_imported_as_ever(site: Site) -> None:
    site.write({f"torch/{name}": text for name, text in TORCH.items()})
    script = (
        "import sys, torch\n"
        "module = torch.distributed.distributed_c10d\n"
        "loaders = module.__loader__, module.__spec__.loader, module.here\n"
        "print(*(type(loader).__name__ for loader in loaders))\n"
        "print([each for each in sys.meta_path if 'AfterTorch' in str(type(each))])"
    )
    assert site.run(script) == "SourceFileLoader SourceFileLoader SourceFileLoader\n[]\n"


def test_a_torch_that_cannot_be_imported_fails_as_ever(site: Site) -> None:
    broken = TORCH | {"distributed/distributed_c10d.py": "raise OSError('libnccl.so.2: no such file')"}
    site.write({f"torch/{name}": text for name, text in broken.items()})
    child = site.start("import torch")
    _, err = child.communicate()
    assert child.returncode == 1
    assert err.splitlines()[-1] == "OSError: libnccl.so.2: no such file"
    assert "sitecustomize" in err, "the frame of the loader is there: nobody hides it"


SERVED = """
import os, sys, multiprocessing, time
import torch
import torch.distributed as dist
def child(queue):
    queue.put(sorted(os.listdir(sys.argv[1])))
for method in ("fork", "spawn"):
    context = multiprocessing.get_context(method)
    if __name__ == "__main__":
        queue = context.Queue()
        worker = context.Process(target=child, args=(queue,))
        worker.start()
        print(method, len(queue.get()), flush=True)
        worker.join()
        print(worker.exitcode, flush=True)
if __name__ == "__main__":
    pid = os.fork()
    if pid == 0:
        sys.exit(3)  # an end with all of Python's cleaning up, in a process that lacks the server's thread
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    print("ready", os.listdir(sys.argv[1]), flush=True)
    input()
"""


@pytest.mark.training
def test_torch_s_own_server_answers_for_the_rank_and_for_no_child(site: Site, tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(SERVED)
    child = subprocess.Popen(
        [sys.executable, str(tmp_path / "s.py"), str(site.stacks)],
        env=site.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout
    lines = [child.stdout.readline() for _ in range(6)]
    assert lines[:5] == ["fork 2\n", "0\n", "spawn 2\n", "0\n", "3\n"]
    assert lines[5].startswith("ready")
    text = ask(str(site.stacks / f"{child.pid}.sock"), "dump_traceback", 30.0).decode()
    assert 'File "' + str(tmp_path / "s.py") in text
    assert b"pg_status" in ask(str(site.stacks / f"{child.pid}.sock"), "fr_trace_json", 30.0)
    out, err = child.communicate("\n")
    assert (child.returncode, out, err) == (0, "", "")


def test_a_rank_s_environment_names_the_place() -> None:
    job: dict[str, Any] = {"ranks": [0], "node_rank": 0, "devices": None}

    def stacks(root: str, **more: Any) -> str | None:
        env: dict[str, str] = rank_environment(job | more, {"RANK": "0"}, NodeDirectory(root))[2]
        return env.get("CLUSTERCTL_STACKS")

    assert stacks("/run") is None
    assert stacks("/run", observed=True) == "/run/stacks"
    elsewhere = stacks("/home/" + "x" * 90, observed=True)
    assert elsewhere is not None
    assert elsewhere.startswith("/tmp/clusterctl-stacks-")
    assert len(elsewhere) < 60
