from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

import memory

HEADER = "Inter-|   Receive  |  Transmit\n face |bytes packets |bytes packets\n"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two Ethernet cards and IP on InfiniBand, whose port has sent 4 x 1000 bytes; for NCCL."""
    sent = {"lo": 9, "eth0": 100, "eth1": 20, "ib0": 3000}
    lines = [f"{name:>6}: 7 1 0 0 0 0 0 0 {count} 1 0 0 0 0 0 0" for name, count in sent.items()]
    write(tmp_path / "proc/net/dev", HEADER + "\n".join(lines) + "\n")
    for name in sent:
        write(tmp_path / "sys/class/net" / name / "type", "32\n" if name == "ib0" else "1\n")
    port(tmp_path, "mlx5_0", "4: ACTIVE", "1000\n")
    monkeypatch.setattr(memory, "DEVICE", "cuda")
    for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def port(root: Path, device: str, state: str, counter: str | None) -> None:
    folder = root / "sys/class/infiniband" / device / "ports/1"
    write(folder / "state", state + "\n")
    if counter is not None:
        write(folder / "counters/port_xmit_data", counter)


@pytest.mark.parametrize(
    ("named", "sent"),
    [
        ("=eth0", 4100),
        ("=eth0,eth1", 4120),
        ("eth", 4120),
        ("ib0", 4000),  # what goes over it is in its port's counter
        ("=eth", None),
        ("^docker", None),
        ("", None),
    ],
)
def test_nccl_sends_by_its_interfaces_and_ports(
    host: Path, monkeypatch: pytest.MonkeyPatch, named: str, sent: int | None
) -> None:
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", named)
    assert memory.bytes_sent(host) == sent


def test_gloo_sends_by_its_interface_alone(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "DEVICE", "cpu")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "^docker")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    port(host, "rdmap0", "4: ACTIVE", None)
    assert memory.bytes_sent(host) == 3000


@pytest.mark.parametrize("counter", [None, "N/A (no PMA)\n"])
def test_a_port_that_does_not_count_makes_the_sum_unknown(
    host: Path, monkeypatch: pytest.MonkeyPatch, counter: str | None
) -> None:
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "=eth0")
    port(host, "rdmap0", "1: DOWN", counter)
    assert memory.bytes_sent(host) == 4100
    port(host, "rdmap0", "4: ACTIVE", counter)
    assert memory.bytes_sent(host) is None
    monkeypatch.setattr(memory, "bytes_sent", lambda: None)
    monkeypatch.setenv(memory.VARIABLE, "2")
    assert "sent_bytes" not in memory.told()
