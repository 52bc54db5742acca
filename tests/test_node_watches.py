"""What watches on a node see, from faked files and a faked nvidia-smi, and that each thing is told once."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clusterctl.node.watch import space as watch_space
from clusterctl.node.watch.devices import Cards, Link
from clusterctl.node.watch.kernel import KernelLog, told_by
from clusterctl.node.watch.memory import Memory
from clusterctl.node.watch.space import Space, largest, share_used
from clusterctl.node.watch.watches import Teller, Watches
from tests.node_run import wait_until

MIB = 1 << 20


class Heard:
    """A `Teller` whose words are kept."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        self.teller = Teller(write)

    def news(self) -> list[dict[str, Any]]:
        try:
            return [json.loads(line) for line in os.read(self._read, 1 << 20).splitlines()]
        except BlockingIOError:
            return []

    def texts(self) -> list[str]:
        return [each["text"] for each in self.news()]


@pytest.fixture
def heard() -> Heard:
    return Heard()


def disk(used: int, total: int = 100, **changes: Any) -> Any:
    fields = {
        "f_blocks": total, "f_bfree": total - used, "f_bavail": total - used, "f_frsize": MIB,
        "f_files": 10, "f_favail": 5,
    }  # fmt: skip
    return SimpleNamespace(**fields | changes)


def look_for(watch: Any, heard: Heard, count: int) -> list[dict[str, Any]]:
    """Look until so much has been told."""
    told: list[dict[str, Any]] = []

    def looked() -> bool:
        watch.look(heard.teller, True)
        told.extend(heard.news())
        return len(told) >= count

    wait_until(looked)
    return told


def test_a_disk_is_told_when_it_is_nearly_full_and_when_it_has_room_again(
    tmp_path: Path, heard: Heard
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "big.pt").write_bytes(b"x" * (3 * MIB))
    (tmp_path / "small").write_bytes(b"x")
    used = [50]
    watch = Space([str(tmp_path)], statvfs=lambda _: disk(used[0]))
    for _ in range(5):
        watch.look(heard.teller, True)
    assert heard.news() == []
    used[0] = 95
    (full,) = look_for(watch, heard, 1)
    assert full["what"] == "space" and not full["over"]
    assert "95 % full: 5.2 MB of 104.9 MB left; largest: " in full["text"]
    assert full["files"][0] == [str(tmp_path / "deep" / "big.pt"), 3 * MIB]
    used[0] = 87  # neither full nor empty: nothing is new
    for _ in range(5):
        watch.look(heard.teller, True)
    assert heard.news() == []
    used[0] = 20
    (over,) = look_for(watch, heard, 1)
    assert over["over"] and "has room again" in over["text"]


def test_places_on_one_file_system_are_told_once(tmp_path: Path, heard: Heard) -> None:
    watch = Space([str(tmp_path), str(tmp_path / "b"), str(tmp_path)], statvfs=lambda _: disk(99))
    told = look_for(watch, heard, 1)
    for _ in range(5):
        watch.look(heard.teller, True)
    assert len(told + heard.news()) == 1


def test_a_file_server_that_does_not_answer_holds_up_nobody(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()

    def dead(_: str) -> Any:
        answer.wait()
        return disk(99)

    watch = Space([str(tmp_path)], statvfs=dead)
    monkeypatch.setattr(watch_space, "AT_ONCE", 0.0)
    for _ in range(20):
        watch.look(heard.teller, True)
    assert heard.news() == []  # late is unknown
    monkeypatch.setattr(watch_space, "SILENT", -1.0)
    watch.look(heard.teller, False)
    (told,) = heard.news()
    assert "has not answered for a minute" in told["text"]
    monkeypatch.setattr(watch_space, "SILENT", 60.0)
    monkeypatch.setattr(watch_space, "AT_ONCE", 1.0)
    answer.set()
    assert any("answers again" in each["text"] for each in look_for(watch, heard, 2))


def test_what_is_full_is_counted_as_df_does() -> None:
    assert share_used(disk(90)) == 0.9
    assert share_used(disk(85, f_bavail=10)) == 85 / 95  # root's share is nobody's
    assert share_used(disk(1, f_favail=0)) == 1.0
    assert share_used(disk(0, total=0)) is None
    assert share_used(disk(1, f_files=0, f_favail=0)) == 0.01


def test_the_walk_for_the_largest_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        (tmp_path / f"f{number}").write_bytes(b"x" * 8192)
    (tmp_path / "loop").symlink_to(tmp_path)
    monkeypatch.setattr(watch_space, "MOST_ENTRIES", 10)
    assert len(largest([str(tmp_path), "/nonexistent"], str(tmp_path))) == 3


def group(root: Path, *, used: int, limit: int, cached: int = 0, kills: int = 0) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "cgroup.controllers").write_text("memory\n")
    (root / "memory.current").write_text(str(used))
    (root / "memory.max").write_text(str(limit))
    (root / "memory.stat").write_text(f"active_file {cached}\ninactive_file 0\n")
    (root / "memory.events").write_text(f"oom 0\noom_kill {kills}\n")


def first_version(root: Path, *, used: int, limit: int, cached: int = 0, kills: int = 0) -> None:
    folder = root / "memory"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.usage_in_bytes").write_text(str(used))
    (folder / "memory.limit_in_bytes").write_text(str(limit))
    (folder / "memory.stat").write_text(f"total_active_file {cached}\ntotal_inactive_file 0\n")
    (folder / "memory.oom_control").write_text(f"oom_kill_disable 0\noom_kill {kills}\n")


@pytest.mark.parametrize(("make", "line"), [(group, "0::/"), (first_version, "4:memory:/")])
def test_a_memory_limit_is_told_before_and_after_it_kills(
    tmp_path: Path, heard: Heard, make: Callable[..., None], line: str
) -> None:
    (tmp_path / "membership").write_text(line + "\n")
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 500 kB\n")
    make(tmp_path / "root", used=95 * MIB, limit=100 * MIB, cached=60 * MIB)
    watch = Memory(str(tmp_path / "root"), str(tmp_path / "membership"), str(tmp_path / "meminfo"))
    watch.look(heard.teller, False)
    assert heard.texts() == []  # what is only cached can be given back
    make(tmp_path / "root", used=95 * MIB, limit=100 * MIB)
    watch.look(heard.teller, False)
    watch.look(heard.teller, False)
    assert heard.texts() == ["99.6 MB of the 104.9 MB that control group / may have are used"]
    make(tmp_path / "root", used=10 * MIB, limit=100 * MIB, kills=1)
    watch.look(heard.teller, False)
    over, kill = heard.news()
    assert over["over"] and not kill["over"]
    assert kill["text"] == "the kernel killed a process for memory in control group /, 105 MB"
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 10 kB\n")
    watch.look(heard.teller, False)
    assert heard.texts() == ["10 kB of the host's 1.0 MB of memory are available"]


XID = "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
KMSG = [
    f"4,1234,5678,-;{XID}",
    f"4,1235,5679,-;{XID}",
    " SUBSYSTEM=pci",
    "3,1236,5680,-;blk_update_request: I/O error, dev sda, sector 12345 op 0x0:(READ) flags 0x0",
    "6,1237,5681,-;mlx5_core 0000:12:00.0 eth2: Link down",
    "6,1238,5682,-;nfs: server filer1 not responding, still trying",
    "6,1239,5683,-;usb 1-1: new high-speed USB device number 4 using xhci_hcd",
]


def test_the_kernel_s_log_is_told_once_for_each_trouble(heard: Heard) -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.write(write, "\n".join(KMSG).encode())
    watch = KernelLog(read)
    watch.look(heard.teller, False)
    watch.look(heard.teller, False)
    told = heard.news()
    assert [(each["what"], each["subject"]) for each in told] == [
        ("kernel", "xid 0000:3b:00 79"),
        ("kernel", "io sda"),
        ("kernel", "link mlx5_core 0000:12:00.0"),
        ("kernel", "nfs filer1"),
    ]
    assert told[0]["text"].startswith("GPU 0000:3b:00: Xid 79: pid='<unknown>'")


def test_kills_are_told_where_pids_mean_the_same() -> None:
    line = (
        "Memory cgroup out of memory: Killed process 4417 (python) total-vm:9kB, anon-rss:8kB, "
        f"file-rss:0kB, shmem-rss:0kB, UID:{os.getuid()} pgtables:9kB oom_score_adj:0"
    )
    assert list(told_by(line)) == [
        ("oom 4417", "killed process 4417 (python) for a control group's memory limit")
    ]
    assert not list(told_by(line, own_pids=False))
    assert not list(told_by(line.replace(f"UID:{os.getuid()}", "UID:77")))


def test_what_root_alone_may_read_is_said_once(heard: Heard) -> None:
    watch = KernelLog(None)
    watch.look(heard.teller, False)
    watch.look(heard.teller, False)
    (told,) = heard.news()
    assert told["what"] == "unseen" and "root" in told["text"]


def smi(folder: Path, text: str) -> Cards:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{text}\n")
    tool.chmod(0o755)
    return Cards(str(folder))


def test_cards_that_vanish_or_run_hot_are_told(tmp_path: Path, heard: Heard) -> None:
    rounds = [
        "0, 00000000:3B:00.0, 41, Not Active", "1, 00000000:5E:00.0, 40, Not Active",
        "0, 00000000:3B:00.0, 93, Active", "1, 00000000:5E:00.0, 40, Not Active",
        "0, 00000000:3B:00.0, 88, Active",
        "0, 00000000:3B:00.0, 60, Not Active", "1, 00000000:5E:00.0, 40, Not Active",
        "0, 00000000:3B:00.0, 60, Not Active",
    ]  # fmt: skip
    watch = smi(tmp_path, "cat <<E\n" + "\n".join(rounds) + "\nE\nexec sleep 1000")
    told = look_for(watch, heard, 4)
    assert [(each["text"], each["over"]) for each in told] == [
        ("GPU 0 is at 93 C, and slowed down by heat", False),
        ("GPU 1 (00000000:5E:00.0) is not there any more", False),
        ("GPU 0 is at 60 C", True),
        ("GPU 1 (00000000:5E:00.0) is there again", True),
    ]
    watch._process.kill()
    watch._process.wait()


def test_a_card_that_nvidia_smi_cannot_reach_is_told(tmp_path: Path, heard: Heard) -> None:
    said = "Unable to determine the device handle for GPU0000:3B:00.0: Unknown Error"
    watch = smi(tmp_path, f"echo '{said}'; exit 15")
    assert [each["text"] for each in look_for(watch, heard, 1)] == [said]


def test_a_host_without_cards_has_none_to_watch(tmp_path: Path, heard: Heard) -> None:
    watch = Cards(str(tmp_path))
    watch.look(heard.teller, False)
    assert heard.news() == []


def test_a_link_without_carrier_is_told(heard: Heard) -> None:
    Link("lo").look(heard.teller, False)
    assert heard.news() == []
    gone = Link("no-such-if0")
    gone.look(heard.teller, False)
    gone.look(heard.teller, False)
    assert heard.texts() == ["no-such-if0 has no carrier: the training network is cut off here"]


def test_a_watch_that_breaks_ends_no_other(heard: Heard) -> None:
    class Broken:
        def look(self, teller: Any, at_once: bool) -> None:
            raise RuntimeError("oh")

    class Good:
        looks = 0

        def look(self, teller: Any, at_once: bool) -> None:
            self.looks += 1

    good = Good()
    watches = Watches([Broken(), good], heard.teller)
    watches.look()
    watches.look()
    assert good.looks == 2
    assert [(each["what"], each["text"]) for each in heard.news()] == [
        ("unseen", "a watch broke: RuntimeError('oh')")
    ]


def test_names_that_are_no_text_are_sendable(heard: Heard) -> None:
    heard.teller.tell("space", "/\udcff", "x" * 5000, [("/\udcff", 3)])
    (told,) = heard.news()
    assert told["files"] == [["/\\udcff", 3]]
    assert len(told["text"]) == 1000
