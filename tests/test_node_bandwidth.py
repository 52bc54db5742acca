"""Data from one socket of this machine to another: counted by what was acknowledged."""

from __future__ import annotations

from clusterctl.node.e2e import bandwidth

TOKEN = "0123456789abcdef" * 2


def order(port: int, token: str = TOKEN) -> dict[str, object]:
    return {
        "address": "127.0.0.1",
        "port": port,
        "token": token,
        "seconds": 0.2,
        "streams": 2,
        "timeout": 30.0,
    }


def test_what_was_carried_comes_with_what_held_it_up() -> None:
    port = bandwidth.receive({"address": "127.0.0.1", "token": TOKEN})["port"]
    for _ in range(2):  # a receiver serves many
        told = bandwidth.send(order(port))
        assert told["rate"] > 0
        assert 0 < told["busy"] <= 1
        assert {"receiver", "buffer", "cpu", "idle"} <= told.keys()


def test_who_does_not_know_the_token_is_hung_up_on() -> None:
    port = bandwidth.receive({"address": "127.0.0.1", "token": TOKEN})["port"]
    told = bandwidth.send(order(port, "ff" * 16))
    assert told.get("error") or told["rate"] < 1e8


def test_where_nobody_listens_the_reason_is_told() -> None:
    assert "refused" in bandwidth.send(order(1))["error"]
