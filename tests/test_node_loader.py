"""Programs that travel as one text: how they are loaded, and what is kept compiled for the next time."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterctl.ask.bundle import pack
from clusterctl.node import loader
from clusterctl.node.loader import KEPT, Modules

SOURCES = {
    "run.first": "from ..shared import second\nimport sys\nvalue = second.value + 1\n",
    "shared.second": "value = 41\ndef fail():\n    raise ValueError('here')\n",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HOME", str(tmp_path))
    path, modules = sys.meta_path[:], set(sys.modules)
    yield tmp_path
    sys.meta_path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def kept() -> Modules:
    """What a launch leaves for the next."""
    modules = Modules("d1", SOURCES)
    modules.keep()
    return Modules("d1", SOURCES)


def altered(modules: Modules) -> Any:
    """Whether the next one would run what was kept, rather than compile its own text."""
    return Modules("d1", dict(SOURCES, **{"shared.second": "value = 0"})).kept != {}


def test_modules_find_one_another() -> None:
    first: Any = loader.load("", SOURCES, "run.first")
    assert first.value == 42
    assert not Path(loader.place_of("")).parent.exists(), "nothing is kept without a digest"


def test_a_traceback_shows_the_lines() -> None:
    first: Any = loader.load("", SOURCES, "run.first")
    with pytest.raises(ValueError) as caught:
        first.second.fail()
    assert "raise ValueError('here')" in "".join(traceback.format_exception(caught.value))


def test_what_was_kept_is_not_compiled_again(home: Path) -> None:
    modules = kept()
    assert modules.kept.keys() == SOURCES.keys()
    place = Path(modules.place)
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700
    namespace: dict[str, Any] = {}
    exec(modules.code("shared.second"), namespace)
    assert namespace["value"] == 41
    assert not Modules("d2", SOURCES).kept, "other sources"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o622, 0o660])
def test_a_file_that_others_could_read_or_write_is_not_run(mode: int) -> None:
    modules = kept()
    Path(modules.place).chmod(mode)
    assert not altered(modules)


def test_nothing_is_taken_from_a_folder_that_others_may_enter() -> None:
    modules = kept()
    Path(modules.place).parent.chmod(0o755)
    assert not altered(modules)


def test_nothing_is_taken_by_way_of_a_link(tmp_path: Path) -> None:
    modules = kept()
    place = Path(modules.place)
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert not altered(modules)
    place.unlink()
    (tmp_path / "elsewhere").rename(place)
    assert altered(modules)
    place.parent.rename(tmp_path / "folder")
    place.parent.symlink_to(tmp_path / "folder")
    assert not altered(modules)


def test_nobody_else_s_file_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = kept()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not altered(modules)


def test_a_pipe_in_its_place_holds_nobody_up() -> None:
    place = Path(kept().place)
    place.unlink()
    os.mkfifo(place, 0o600)
    assert not Modules("d1", SOURCES).kept


@pytest.mark.parametrize("length", [0, 3, 4, 5, 100, -1])
def test_what_is_not_whole_is_compiled_again(length: int) -> None:
    place = Path(kept().place)
    place.write_bytes(place.read_bytes()[:length])
    assert not Modules("d1", SOURCES).kept


def test_a_byte_that_is_another_is_noticed() -> None:
    place = Path(kept().place)
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)
    assert not Modules("d1", SOURCES).kept


def test_few_are_kept() -> None:
    for number in range(KEPT + 3):
        modules = Modules(f"d{number}", SOURCES)
        modules.keep()
        os.utime(modules.place, (number, number))
    names = {path.name.partition("-")[0] for path in Path(modules.place).parent.iterdir()}
    assert names == {f"d{number}" for number in range(3, KEPT + 3)}


def test_a_disk_that_takes_nothing_leaves_nothing_half() -> None:
    modules = Modules("d1", SOURCES)
    Path(modules.place).mkdir(parents=True, mode=0o700)
    (Path(modules.place) / "x").touch()
    with pytest.raises(OSError):
        modules.keep()
    assert [each.name for each in Path(modules.place).parent.iterdir()] == [Path(modules.place).name]


def test_a_bundle_reads_no_byte_of_what_follows_it() -> None:
    """Orders may come right behind it."""
    bundle = pack("shared.compiled", {}, ("shared.files",)).replace(b"sys.exit(run(", b"bundle   = ((")
    script = "import sys;b=sys.stdin.buffer;exec(b.read(int(b.readline())));print(len(bundle), b.read())"
    argv = [sys.executable, "-I", "-S", "-c", script]
    found = subprocess.run(argv, input=bundle + b"next", capture_output=True, check=True)
    assert found.stdout.split()[1] == b"b'next'"
