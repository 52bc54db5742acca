"""What of a working directory travels: ignore rules held against git itself, and everything odd on a disk."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from clusterctl.ask import sync, tree
from clusterctl.ask.ignore import PULLED_MARK
from clusterctl.ask.tree import TooBig, Unusable, scan
from clusterctl.errors import ClusterctlError, UsageError
from clusterctl.node.run import snapshot
from clusterctl.store import files


def lay(root: Path, **files: str) -> None:
    """Files by name; ``__`` stands for a slash."""
    for name, text in files.items():
        write(root / name.replace("__", "/"), text)


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def git(root: Path, *words: str) -> str:
    environ = {**os.environ, "HOME": str(root), "GIT_CONFIG_NOSYSTEM": "1", "XDG_CONFIG_HOME": str(root)}
    return subprocess.run(
        ["git", *words], cwd=root, env=environ, check=True, capture_output=True, text=True
    ).stdout


def names(root: Path) -> set[str]:
    return set(scan(root).files)


def unpacked(found: tree.Tree, target: Path) -> Path:
    """As a node does it."""
    packed = sync.Packed(found)
    store = snapshot.Snapshots(str(target / "store"))
    store.begin(found.digest)
    assert store.incoming is not None
    for piece in packed.pieces():
        store.incoming.write(piece)
    packed.close()
    store.finish(found.digest)
    store.copy(found.digest, str(target / "work"))
    return target / "work"


PATTERNS = [
    *(
        "*",
        "!*/",
        "!*.py",
        "/*",
        "!/src",
        "!src/",
        "data/",
        "/data",
        "data/*",
        "!data/keep",
        "**/out",
        "out/**",
    ),
    *("src/**/deep", "*.pt", "!best.pt", "a?b", "[ab]*", "\\#x", "# comment", "", "deep/", "!deep/", "keep "),
]
FOLDERS = ["", "src/", "data/", "src/deep/", "data/keep/", "out/", "src/out/deep/"]
NAMES = ["a.py", "best.pt", "keep", "aXb", "#x", "data"]


@pytest.mark.parametrize("seed", range(20))
def test_the_rules_are_gits(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    git(tmp_path, "init", "-q")
    for folder in FOLDERS:
        for name in NAMES:
            if not (tmp_path / folder / name).is_dir() and folder + name + "/" not in FOLDERS:
                write(tmp_path / folder / name)
        if folder == "" or draw.random() < 0.4:
            write(tmp_path / folder / ".gitignore", "\n".join(draw.sample(PATTERNS, draw.randint(1, 5))))
    write(tmp_path / ".git/info/exclude", draw.choice(PATTERNS))
    wanted = set(git(tmp_path, "ls-files", "-co", "--exclude-standard", "-z").split("\0")) - {""}
    found = scan(tmp_path)
    assert {name for name, digest in found.files.items() if digest != tree.FOLDER} == wanted


def test_our_own_file_is_stronger_than_gits(tmp_path: Path) -> None:
    lay(tmp_path, data__a="x", data__b="x", notes="x", venv__lib="x", sub__big="x", sub__keep="x")
    write(tmp_path / ".gitignore", "data/\n")
    write(tmp_path / ".clusterctlignore", "!data/\ndata/b\nnotes\n!venv/\nsub/*\n!keep\n.*ignore")
    assert names(tmp_path) == {"data/a", "venv/lib", "sub/keep"}
    assert scan(tmp_path).ignored == ()


def test_what_git_leaves_out_is_told(tmp_path: Path) -> None:
    lay(tmp_path, data__a="x", weights="x", code="x", __pycache____x="x")
    write(tmp_path / ".gitignore", "data\nweights\n")
    assert scan(tmp_path).ignored == ("data/", "weights")


def test_rules_above_a_subdirectory_count_and_end_at_the_repository(tmp_path: Path) -> None:
    write(tmp_path / ".gitignore", "*")
    top = tmp_path / "top"
    lay(top, sub__a__pt="x", sub__code="x", other__x="x")
    git(top, "init", "-q")
    write(top / ".gitignore", "pt\n")
    assert names(top / "sub") == {"code", "a"}
    module = top / "module"
    write(module / "pt")
    git(module, "init", "-q")
    assert "module/pt" in names(top), "the rules of a repository end where another begins"


def test_a_directory_that_its_repository_leaves_out_is_none_of_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    write(tmp_path / ".gitignore", "*")
    write(tmp_path / "scratch/train.py")
    assert names(tmp_path / "scratch") == {"train.py"}


def test_worktrees_share_what_is_excluded(tmp_path: Path) -> None:
    main = tmp_path / "main"
    write(main / "code")
    git(main, "init", "-q")
    git(main, "add", "code")
    git(main, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x")
    git(main, "worktree", "add", "-q", str(tmp_path / "side"))
    write(main / ".git/info/exclude", "private")
    write(tmp_path / "side/private")
    assert names(tmp_path / "side") == {"code"}


def test_executable_is_part_of_the_content_and_arrives(tmp_path: Path) -> None:
    root = tmp_path / "project"
    script = write(root / "run.sh", "#!/bin/sh")
    write(root / "plain", "x").chmod(0o400)
    before = scan(root)
    script.chmod(0o755)
    after = scan(root)
    assert before.digest != after.digest
    assert snapshot.holds(str(root), after.manifest())
    assert not snapshot.holds(str(root), before.manifest())
    work = unpacked(after, tmp_path)
    assert [os.access(work / name, os.X_OK) for name in ("run.sh", "plain")] == [True, False]
    assert snapshot.holds(str(work), after.manifest())
    (work / "run.sh").chmod(0o644)
    assert not snapshot.holds(str(work), after.manifest())


def test_empty_folders_odd_names_and_links_arrive(tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / "out/deep").mkdir(parents=True)
    write(root / os.fsdecode(b"\xff\xfe \x1b[31m ") / "ünï")
    (root / "link").symlink_to("./nowhere//x")
    (root / "bytes").symlink_to(os.fsdecode(b"\xff"))
    (root / "loop").symlink_to(".")
    found = scan(root)
    assert found.files["out/deep"] == tree.FOLDER
    assert found.count == 4
    work = unpacked(found, tmp_path)
    assert (work / "out/deep").is_dir()
    assert os.readlink(work / "link") == "./nowhere//x"  # noqa: PTH115 - to the letter
    assert snapshot.holds(str(work), found.manifest())
    (work / "out/deep").rmdir()
    assert not snapshot.holds(str(work), found.manifest())


def test_what_cannot_travel_is_named_and_blocks_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
    write(tmp_path / "code")
    os.mkfifo(tmp_path / ".gitignore")
    found = scan(tmp_path)
    assert (set(found.files), set(found.special)) == ({"code"}, {"pipe", "s", ".gitignore"})
    os.mkfifo(tmp_path / ".clusterctlignore")
    with pytest.raises(UsageError, match="clusterctlignore cannot be read"):
        scan(tmp_path)


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    _unreadable(tmp_path)


def _unreadable(root: Path) -> None:
    for name in ("closed/x", "half/x", "secret"):
        write(root / name)
    (root / "closed").chmod(0)
    (root / "half").chmod(0o400)
    (root / "secret").chmod(0)
    try:
        with pytest.raises(UsageError) as found:
            scan(root)
        for name in ("closed", "half/x", "secret"):
            assert f"{name}: Permission denied" in found.value.message
        assert ".clusterctlignore" in found.value.hint
        write(root / ".clusterctlignore", "closed\nhalf/\nsecret\n")
        assert names(root) == {".clusterctlignore"}
    finally:
        (root / "closed").chmod(0o700)
        (root / "half").chmod(0o700)


def test_root_is_refused_nothing_but_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the tests run as root, with the refusal played."""
    write(tmp_path / "folder/x")
    write(tmp_path / "secret")

    def listing(path: str) -> object:
        if path.endswith("folder"):
            raise PermissionError(13, "Permission denied", path)
        return real_listing(path)

    def opening(path: Path, *words: int, **more: int) -> int:
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return real_opening(path, *words, **more)

    real_listing, real_opening = os.scandir, os.open
    monkeypatch.setattr(os, "scandir", listing)
    monkeypatch.setattr(os, "open", opening)
    with pytest.raises(UsageError, match=r"folder: Permission denied; secret: Permission denied"):
        scan(tmp_path)


def test_a_folder_that_nobody_may_enter_is_told_as_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as a file of rules that nobody has ever put there."""
    write(tmp_path / "closed/x")

    def refused(path: Path) -> bytes | None:
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return None

    def listing(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return real_listing(path)

    real_listing, real_access = os.scandir, os.access
    monkeypatch.setattr(files, "read", refused)
    monkeypatch.setattr(os, "scandir", listing)
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "closed")
    with pytest.raises(UsageError, match="copied whole: closed: Permission denied"):
        scan(tmp_path)
    monkeypatch.setattr(os, "access", real_access)
    with pytest.raises(UsageError, match=r"closed/\.clusterctlignore cannot be read"):
        scan(tmp_path)


def test_what_vanishes_meanwhile_was_never_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "stays")
    write(tmp_path / "goes")
    real = tree.digest_of

    def digest_of(path: Path) -> tuple[str, int | None]:
        if path.name == "goes":
            path.unlink()
        return real(path)

    monkeypatch.setattr(tree, "digest_of", digest_of)
    assert names(tmp_path) == {"stays"}


@pytest.mark.parametrize("change", ["shorter", "other", "gone", "mode", "fifo", "link", "folder"])
def test_a_file_that_changes_before_it_is_packed_is_named(tmp_path: Path, change: str) -> None:
    root = tmp_path / "p"
    path = write(root / "file", "text")
    (root / "link").symlink_to("there")
    (root / "folder").mkdir()
    found = scan(root)
    texts = {"shorter": "t", "other": "next"}
    if change in texts:
        path.write_text(texts[change])
    elif change == "mode":
        path.chmod(0o755)
    elif change == "link":
        (root / "link").unlink()
    elif change == "folder":
        (root / "folder").rmdir()
    else:
        path.unlink()
        if change == "fifo":
            os.mkfifo(path)
    with pytest.raises(ClusterctlError, match=r"(file|link|folder) in .* changed while it was copied"):
        sync.Packed(found)


def test_a_log_that_grows_meanwhile_travels_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path / "p/train.log", "text")
    found = scan(tmp_path / "p")
    path.write_text("text and more")
    assert (unpacked(found, tmp_path / "node") / "train.log").read_text() == "text"


@pytest.mark.parametrize(
    "command", ["{scan} > out", "{scan} 2> out", "{scan} | tee out | cat", "{scan} > >(tee out)"]
)
def test_where_the_command_prints_to_does_not_travel(tmp_path: Path, command: str) -> None:
    lay(tmp_path, code="x", other="x")
    words = (
        f"from clusterctl.ask.tree import scan; print(*scan(__import__('pathlib').Path('{tmp_path}')).files)"
    )
    scan_it = f'{sys.executable} -c "{words}" 3< code'
    argv = ["bash", "-c", command.format(scan=scan_it)]
    done = subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert (done.stdout or (tmp_path / "out").read_text()).split() == ["code", "other"]


def test_no_room_for_the_archive_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "p/file", "text")
    found = scan(tmp_path / "p")
    monkeypatch.setattr(sync, "_temporary", lambda: open("/dev/full", "wb"))  # noqa: PTH123, SIM115
    with pytest.raises(ClusterctlError, match="No space left") as raised:
        sync.Packed(found)
    assert "TMPDIR" in raised.value.hint


def test_an_archive_is_private_nameless_and_read_by_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "p").mkdir()
    (tmp_path / "p/noise").write_bytes(os.urandom(700_000))
    packed = sync.Packed(scan(tmp_path / "p"))
    assert list((tmp_path / "tmp").iterdir()) == []
    one, other = packed.pieces(), packed.pieces()
    first = next(one)
    assert b"".join([first, *one]) == b"".join(other)
    packed.close()


def test_owners_and_groups_do_not_travel(tmp_path: Path) -> None:
    write(tmp_path / "p/file")
    packed = sync.Packed(scan(tmp_path / "p"))
    (tmp_path / "x.tar.gz").write_bytes(b"".join(packed.pieces()))
    packed.close()
    with tarfile.open(tmp_path / "x.tar.gz") as tar:
        assert [(member.uid, member.gid, member.uname) for member in tar] == [(0, 0, "")]


def test_what_pull_brought_does_not_travel(tmp_path: Path) -> None:
    lay(tmp_path, code="x", results__node1__model="x")
    (tmp_path / "results" / PULLED_MARK).write_text("")
    assert names(tmp_path) == {"code"}


def test_limits_name_the_biggest(tmp_path: Path) -> None:
    write(tmp_path / "code")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/big").write_bytes(b"x" * 5000)
    with pytest.raises(TooBig, match=r"biggest: data \(0.0 MB\), code") as found:
        scan(tmp_path, max_bytes=1000)
    assert "--sync-limit" in found.value.hint
    with pytest.raises(TooBig):
        scan(tmp_path, max_files=1)
    write(tmp_path / ".clusterctlignore", "data")
    assert names(tmp_path) == {"code", ".clusterctlignore"}


def test_a_home_directory_and_the_whole_disk_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in (tmp_path, Path("/")):
        with pytest.raises(Unusable, match="not a working directory"):
            scan(place)


def test_a_pattern_that_is_none_is_named_by_its_line(tmp_path: Path) -> None:
    write(tmp_path / "code")
    write(tmp_path / ".gitignore", "[z-a]\n!\ncode2\n")
    assert "code" in names(tmp_path)
    write(tmp_path / ".clusterctlignore", "fine\n!\n")
    with pytest.raises(UsageError, match=r"\.clusterctlignore line 2: `!` is not a pattern"):
        scan(tmp_path)
