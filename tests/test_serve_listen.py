"""Where the server listens, and what is said where it cannot."""

from __future__ import annotations

import importlib.util
import re
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from clusterctl.cli import serve
from clusterctl.errors import UsageError
from clusterctl.serve import listen as room
from clusterctl.serve.listen import listen


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of the loopback at which somebody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        yield other.getsockname()[1]


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(taken: int) -> None:
    with pytest.raises(UsageError, match=f"port {taken} is taken"):
        listen("127.0.0.1", taken)


def test_where_none_was_asked_for_the_next_free_one_is_taken(
    taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PORT", taken)
    place = listen("127.0.0.1", None)
    with closing(place.listener):
        assert taken < place.port < taken + 50 and place.own and place.names() == frozenset()


def test_an_address_that_is_not_of_this_machine_is_an_error() -> None:
    with pytest.raises(UsageError, match=re.escape("192.0.2.1")) as told:
        listen("192.0.2.1", 0)
    assert "an address of this machine" in told.value.hint


def test_others_come_by_the_names_of_this_machine() -> None:
    place = listen("0.0.0.0", 0)
    with closing(place.listener):
        assert not place.own and place.host == socket.gethostname()
        assert socket.gethostname().lower() in place.names()


def test_without_its_libraries_the_line_that_installs_them_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as told:
        serve.command()
    assert told.value.hint == "pip install 'clusterctl[serve]'"
