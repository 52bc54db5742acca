"""Samples of a host: from files of real kernels, and a driver's library that replays what real cards tell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from clusterctl.node.observe import nvml, samples
from clusterctl.node.observe.counters import rdma_traffic
from clusterctl.node.observe.nvml import Cards
from clusterctl.node.observe.samples import HostSamples, cpu_ticks, disk_bytes, net_bytes, rates, share
from clusterctl.store.sample import GpuSample, Sample, SampledHost, decode
from tests.node_run import wait_until

FIXTURES = Path(__file__).parent / "fixtures"
H100 = "NVIDIA_H100 85520809984 42760404992 97 61 612345 1755 0x4"
GB10 = "NVIDIA_GB10 - - 0 48 - 2418 0x0"
MIG = "NVIDIA_A100 42949672960 5368709120 - 38 98000 1410 0x20"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A fake of the driver's library."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    path = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, FIXTURES / "fake_nvml.c"], check=True)
    return str(path)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says what cards there are."""
    monkeypatch.setattr(nvml, "START", 0.0)
    path = tmp_path / "cards"
    monkeypatch.setenv("FAKE_NVML", str(path))
    return path


def asked(cards: Cards) -> Cards:
    threading.Thread(target=cards.go_on, args=(0.01,), daemon=True).start()
    wait_until(lambda: cards.newest(60.0) is not None)
    return cards


def test_cards_tell_what_they_know(library: str, driver: Path) -> None:
    driver.write_text("\n".join((H100, GB10, MIG, "lost")))
    cards = asked(Cards((library,)))
    assert cards.names == [
        ["NVIDIA_H100", 85520809984],
        ["NVIDIA_GB10", None],
        ["NVIDIA_A100", 42949672960],
        [None, None],
    ]
    assert cards.newest(60.0) == [
        [0.97, 42760404992, 61, 612, 1755, 4],
        [0.0, None, 48, None, 2418, 0],
        [None, 5368709120, 38, 98, 1410, 32],
        None,
    ]


def test_a_card_that_is_lost_is_none_from_then_on(library: str, driver: Path) -> None:
    driver.write_text(f"{H100}\n{H100}\n")
    cards = asked(Cards((library,)))
    driver.write_text(f"{H100}\nlost\n")
    wait_until(lambda: cards.newest(60.0)[1] is None)
    assert cards.newest(60.0)[0] is not None


def test_a_driver_that_hangs_holds_up_nobody(library: str, driver: Path) -> None:
    driver.write_text(H100)
    cards = asked(Cards((library,)))
    driver.write_text("hang\n")
    wait_until(lambda: cards.newest(0.5) is None)
    assert cards.newest(3600.0) is not None


@pytest.mark.parametrize("there", [True, False])
def test_without_a_driver_nobody_tells(library: str, driver: Path, there: bool) -> None:
    cards = Cards((library if there else "libnot-there.so.1",))
    cards.go_on(0.0)  # ends
    assert cards.newest(3600.0) is None and cards.names is None


def test_a_host_writes_samples_that_the_controller_reads(
    library: str, driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.write_text(f"{H100}\nlost")
    path = tmp_path / "samples.ndjson"
    monkeypatch.setattr(samples, "LATE", 1e6)
    HostSamples(str(path), asked(Cards((library,))), interval=0.02).start()
    wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") >= 3)
    assert path.stat().st_mode & 0o777 == 0o600
    head, *found = map(decode, path.read_bytes().splitlines()[:3])
    assert isinstance(head, SampledHost) and head.cores == os.cpu_count()
    assert head.gpus is not None and [card.name for card in head.gpus] == ["NVIDIA_H100", None]
    for each in found:
        assert isinstance(each, Sample)
        assert 0 < (each.memory or 0) < (head.memory or 0)
        assert each.gpus == (GpuSample(0.97, 42760404992, 61, 612, 1755, 4), None)
        assert each.gpus[0].reasons == ("power cap",)


def test_what_a_sample_cannot_tell_is_null(tmp_path: Path) -> None:
    path = tmp_path / "samples.ndjson"
    writer = HostSamples(str(path), Cards(()))
    for _ in range(2):
        writer.append({"t": 1.0, "cpu": None, "gpus": None})
    head, *lines = path.read_text().splitlines()
    assert json.loads(head)["gpus"] is None and len(lines) == 2
    assert decode(lines[0].encode()) == Sample(time=1.0)


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "samples.ndjson").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError):
        HostSamples(str(tmp_path / "samples.ndjson"), Cards(())).append({"t": 1.0})


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b'{"v": 2}', b'{"t": ""}', b'{"t": 1, "cpu": 7}', b"\xff"]
)
def test_what_is_no_sample_is_passed_over(line: bytes) -> None:
    assert decode(line) is None


# Counters of the kernel


def test_shares_and_rates() -> None:
    assert cpu_ticks("cpu  100 5 50 800 40 0 5 0 30 0\ncpu0 1 1 1 1") == (840, 1000)
    assert cpu_ticks("") is None
    assert share((840, 1000), (890, 1100)) == 0.5
    assert share((840, 1000), (840, 1000)) is None
    assert rates((0, 10), (100, 10), 2.0) == [50, 0]
    assert rates((5, 0), (0, 0), 2.0) is None  # an adapter was reset
    assert rates(None, (0, 0), 2.0) is None


def test_disks_are_counted_once() -> None:
    text = """
   259 0 nvme0n1 100 0 2000 50 10 0 400 7 0 30 57
   259 1 nvme0n1p1 90 0 1900 45 9 0 390 6 0 28 51
   253 0 dm-0 100 0 2000 50 10 0 400 7 0 30 57
"""
    assert disk_bytes(text, {"nvme0n1"}) == (2000 * 512, 400 * 512)
    assert disk_bytes(text, set()) is None


def test_networks_are_counted_where_bytes_leave_the_host() -> None:
    text = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0
  eth0: 1000 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0
docker0:5000 1 0 0 0 0 0 0 6000 1 0 0 0 0 0 0
"""  # noqa: E501
    assert net_bytes(text, {"eth0", "eth1"}) == (1000, 200)
    assert net_bytes(text, set()) == (6000, 6200)
    assert net_bytes("", set()) is None


def test_rdma_is_counted_in_words(tmp_path: Path) -> None:
    for port, received, sent in (("1", "10", "20"), ("2", "1", "")):
        folder = tmp_path / "mlx5_0" / "ports" / port / "counters"
        folder.mkdir(parents=True)
        (folder / "port_rcv_data").write_text(received + "\n")
        (folder / "port_xmit_data").write_text(sent)
    assert rdma_traffic(str(tmp_path)) == (44, 80)
    assert rdma_traffic(str(tmp_path / "none")) is None


def test_this_host_counts() -> None:
    before = samples.Counters()
    told = samples.Counters().since(before)
    assert (told["mem"] and told["rdma"] is None) or told["rdma"] is not None
    assert set(told) == {"t", "cpu", "mem", "swap", "disk", "net", "rdma"}
