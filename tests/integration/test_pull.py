"""Outputs come back from real hosts: what is new, what is named, and nothing outside of the directory."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.ask.ignore import PULLED_MARK
from clusterctl.ask.pull import Source, pull, unpack
from clusterctl.sandbox import Sandbox
from clusterctl.transport import connect
from tests.integration.launching import PATIENCE, Launch, launch

WRITES = """
import os
rank = os.environ["RANK"]
os.makedirs("out/deep er", exist_ok=True)
open("out/deep er/weights-%s.bin" % rank, "wb").write(os.urandom(3_000_000))
open("out/deep er/size-%s.txt" % rank, "w").write("text of rank " + rank)
os.symlink("deep er", "out/latest")
os.symlink("/etc/passwd", "out/escape")
os.link("out/deep er/size-%s.txt" % rank, "out/linked.txt")
open(b"out/\\xff\\x1b[31m.txt", "w").write("a name that is no text")
open("data.txt", "a").write("more")
open("tool.sh", "w").write("#!/bin/sh"); os.chmod("tool.sh", 0o755)
open("../beside.txt", "w").write("outside of where it ran")
if rank == "1": open("only-here.txt", "w").write("rank 1")
"""


def clusterctl(*words: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "clusterctl", *words],
        cwd=cwd,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "src").mkdir()
    (folder / "src/writes.py").write_text(WRITES)
    (folder / "src/data.txt").write_text("as it was")
    (folder / "src/unchanged.txt").write_text("as it was")
    return folder


@pytest.fixture(scope="module")
def written(sandbox: Sandbox, project: Path) -> Iterator[Launch]:
    """A run below a --workdir, so that its working directory is a subdirectory of the copied code."""
    found = launch(
        sandbox,
        "writes.py",
        cwd=project / "src",
        options=["-n", "2", "--gpus-per-node", "1", "--workdir", str(project)],
    )
    assert found.code == 0, found.text
    yield found


def files(folder: Path) -> set[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*.*") if path.name != PULLED_MARK)
    return {os.fsencode(path).decode(errors="replace") for path in found}


@pytest.mark.sandbox
def test_all_that_is_new_or_changed(written: Launch, tmp_path: Path) -> None:
    found = clusterctl("pull", written.run.name, cwd=tmp_path)
    target = tmp_path / "pulled" / written.run.name
    assert files(target / "node2") == {
        "src/out/deep er/weights-1.bin",
        "src/out/deep er/size-1.txt",
        "src/out/linked.txt",
        "src/out/\ufffd\x1b[31m.txt",
        "src/data.txt",
        "src/tool.sh",
        "src/only-here.txt",
        "beside.txt",
    }
    assert "src/only-here.txt" not in files(target / "node1")
    assert (target / "node1/src/data.txt").read_text() == "as it wasmore"
    assert (target / "node1/src/out/deep er/weights-0.bin").stat().st_size == 3_000_000
    assert (target / "node1/src/out/latest").readlink() == Path("deep er")
    assert (target / "node1/src/out/linked.txt").read_text() == "text of rank 0"
    assert os.access(target / "node1/src/tool.sh", os.X_OK)
    assert not os.access(target / "node1/src/data.txt", os.X_OK)
    assert not (target / "node1/src/out/escape").is_symlink(), "a link that leads outside is refused"
    assert found.returncode == 1
    assert b"src/out/escape: a link to /etc/passwd" in found.stdout
    assert b"3.0 MB" in found.stdout
    assert b"\x1b" not in found.stdout


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("unchanged.txt", {"node1/src/unchanged.txt", "node2/src/unchanged.txt"}),
        ("only-here.txt", {"node2/src/only-here.txt"}),
        ("./out/../only-here.txt", {"node2/src/only-here.txt"}),
        ("out/latest/size-0.txt", {"node1/src/out/latest/size-0.txt"}),
        ("../beside.txt", {"node1/beside.txt", "node2/beside.txt"}),
    ],
)
def test_what_is_named(written: Launch, tmp_path: Path, path: str, expected: set[str]) -> None:
    found = clusterctl("pull", written.run.name, path, "--to", "here", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert files(tmp_path / "here") == expected


@pytest.mark.sandbox
def test_a_file_is_no_place_for_outputs(written: Launch, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    found = clusterctl("pull", written.run.name, "--to", "taken", cwd=tmp_path)
    assert found.returncode == 64
    assert b"taken is not a directory" in found.stderr
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.sandbox
def test_one_host_and_again_over_it(written: Launch, tmp_path: Path) -> None:
    for _ in range(2):
        found = clusterctl(
            "pull", written.run.name, "data.txt", "--host", "node2", "--to", "here", cwd=tmp_path
        )
        assert found.returncode == 0, found.stderr
        assert files(tmp_path / "here") == {"node2/src/data.txt"}
        (tmp_path / "here/node2/src/data.txt").write_text("spoiled")
    wrong = clusterctl("pull", written.run.name, "data.txt", "--host", "node9", cwd=tmp_path)
    assert (wrong.returncode, b"its hosts: node[1-2]" in wrong.stderr) == (64, True)


@pytest.mark.sandbox
@pytest.mark.parametrize("path", ["nothere", "../../..", "/etc/passwd", "out/../../secret"])
def test_what_is_not_there_or_not_of_the_run(written: Launch, tmp_path: Path, path: str) -> None:
    found = clusterctl("pull", written.run.name, path, cwd=tmp_path)
    assert found.returncode == 64
    assert b"hint: there is: data.txt, only-here.txt, out, tool.sh" in found.stderr
    assert list(tmp_path.iterdir()) == [], "no empty folders stay"


@pytest.mark.sandbox
def test_a_run_in_place_gives_what_changed_since_it_began(
    sandbox: Sandbox, project: Path, tmp_path: Path
) -> None:
    script = "open('hello-' + __import__('os').environ['RANK'], 'w').write('x')"
    (tmp_path / "hello.py").write_text(script)
    lay = 'mkdir -p "$1" && printf %s "$2" > "$1/hello.py"'  # the host's /tmp is its own
    sandbox.host("node1").run(["sh", "-c", lay, "sh", str(tmp_path), script])
    found = launch(
        sandbox, "hello.py", cwd=tmp_path, options=["-n", "1", "--gpus-per-node", "1", "--no-sync"]
    )
    assert found.code == 0, found.text
    all_of_it = clusterctl("pull", found.run.name, "--to", str(tmp_path / "all"), cwd=project)
    assert all_of_it.returncode == 0, all_of_it.stderr
    assert (tmp_path / "all/node1/hello-0").read_text() == "x"
    named = clusterctl("pull", found.run.name, "hello-0", "--to", str(tmp_path / "to"), cwd=project)
    assert named.returncode == 0, named.stderr
    assert (tmp_path / "to/node1/hello-0").read_text() == "x"


@pytest.mark.sandbox
def test_a_host_that_gives_no_answer_does_not_spoil_the_others(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.host("node1").run(["sh", "-c", "mkdir -p /tmp/outputs && echo kept > /tmp/outputs/a.txt"])
    link = connect("fabric", sandbox.ssh_config)
    try:
        roots = {"node1": "/tmp/outputs", "nosuchhost": "/tmp/outputs", "node2": "/tmp/no/such/folder"}
        sources = {host: Source(root=root, path=".") for host, root in roots.items()}
        answers = pull(link, sources, tmp_path)
    finally:
        link.close()
    assert [answer.host for answer in answers] == list(roots)
    assert answers[0].files == {"a.txt": 5}
    assert "no" in answers[1].problem
    assert answers[2].problem == "/tmp/no/such/folder does not exist any more"
    assert (tmp_path / "node1/a.txt").read_text() == "kept\n"
    assert [path.name for path in tmp_path.iterdir()] == ["node1"]
    assert (tmp_path / "node1" / PULLED_MARK).exists(), "what pull made never travels"


def archive(*members: tuple[str, bytes | str | None]) -> tarfile.TarFile:
    """A tar of (name, content); text is the target of a symlink, None a device."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            elif content is None:
                info.type = tarfile.FIFOTYPE
            else:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    stream.seek(0)
    return tarfile.open(fileobj=stream)


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", b"x")],
        [("/tmp/clusterctl-evil", b"x")],
        [("a/../../evil", b"x")],
        [("link", "..")],
        [("link", "/etc")],
        [("a/link", "../../outside")],
        [("one", "."), ("one/two", "..")],
        [("pipe", None)],
        [("was/here", b"x")],
    ],
)
def test_nothing_is_written_outside(tmp_path: Path, members: list[tuple[str, bytes | str | None]]) -> None:
    target = tmp_path / "target"
    (target / "host").mkdir(parents=True)
    (target / "host/was").symlink_to(tmp_path)
    with archive(*members) as tar:
        came, refused = unpack(tar, target / "host")
    assert members[-1][0] in refused
    assert members[-1][0] not in came
    assert sorted(path.name for path in tmp_path.iterdir()) == ["target"]
    assert [path.name for path in target.iterdir()] == ["host"]


def test_what_is_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with archive(("folder", b"x"), ("file/below", b"x"), ("fine", b"x")) as tar:
        came, refused = unpack(tar, tmp_path)
    assert (set(came), set(refused)) == ({"fine"}, {"folder", "file/below"})
    assert (tmp_path / "file").read_text() == "mine"
