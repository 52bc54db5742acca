"""Hosts that the configuration treats alike are resolved as one, and as `ssh -G` resolves each of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clusterctl.transport import resolve as module
from clusterctl.transport.endpoint import Endpoint
from clusterctl.transport.protocol import Failure
from clusterctl.transport.resolve import Endpoints, resolve
from clusterctl.transport.ssh_config import SshConfig

NAMES = ("n1", "n2", "gpu-07", "gpu-07.lab", "10.1.2.3", "gw")
OPTIONS = st.sampled_from(
    [
        "HostName %h.lab",
        "HostName 10.0.0.9",
        "HostName=other",
        'HostName "quoted.lab"',
        "HostName 010.1.1.1",
        "HostName Upper.Lab",
        "HostName ::1",
        "HostName a # not the name",
        "Port 2222",
        "Port = 2022",
        "User alice",
        "User al%i",
        "IdentityFile ~/.ssh/one",
        "IdentityFile ~/.ssh/%h",
        "IdentityFile none",
        "IdentitiesOnly yes",
        "IdentityAgent ~/agent-%h",
        "UserKnownHostsFile ~/k_%n /b",
        "HostKeyAlias %k",
        "HostKeyAlias lab",
        "StrictHostKeyChecking accept-new",
        "ProxyJump gw",
        "ProxyJump none",
        "ProxyCommand nc %h %p",
        "ConnectTimeout 3",
        "ControlPath ~/c-%C",
        "SendEnv LANG",
    ]
)
PATTERNS = st.lists(
    st.sampled_from(
        ["n1", "n2", "n*", "n?", "gpu-*", "gpu-07.lab", "!n1", "*", "10.*", "gw", "[n]*", "n1,n2"]
    ),
    min_size=1,
    max_size=3,
)
BLOCKS = st.lists(
    st.one_of(
        OPTIONS.map("  {}\n".format),
        PATTERNS.map(lambda each: f"Host {' '.join(each)}\n"),
        st.sampled_from(
            ["Include more\n", "  Include more even*\n", "Match host n1\n", "Match all\n", "# words\n", "\n"]
        ),
    ),
    max_size=9,
).map("".join)


def each_and_together(config: Path) -> tuple[list[Endpoint | Failure], list[Endpoint | Failure]]:
    endpoints, deadline = Endpoints(config), time.monotonic() + 120
    return [resolve(name, config, deadline) for name in NAMES], [endpoints.get(n, deadline) for n in NAMES]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(first=BLOCKS, more=BLOCKS, even=BLOCKS)
def test_as_ssh_itself_would(tmp_path: Path, first: str, more: str, even: str) -> None:
    config = tmp_path / "config"
    for name, text in (("config", first), ("more", more), ("even-more", even)):
        text = text.replace("Include more", f"Include {tmp_path}/more").replace("even*", f"{tmp_path}/even*")
        (tmp_path / name).write_text(text if name == "config" else text.replace("Include", "# Include"))
    each, together = each_and_together(config)
    assert together == each


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that `ssh -G` is run for."""
    names: list[str] = []
    really = module._ask_ssh

    def ask(name: str, config: Path | None, deadline: float, port: int | None) -> module._Told | Failure:
        names.append(name)
        return really(name, config, deadline, port)

    monkeypatch.setattr(module, "_ask_ssh", ask)
    return names


def resolved(config: Path, text: str, names: list[str]) -> list[Endpoint]:
    config.write_text(text)
    endpoints, found = Endpoints(config), []
    for name in names:
        one = endpoints.get(name, time.monotonic() + 60)
        assert isinstance(one, Endpoint)
        found.append(one)
    return found


def test_hosts_that_differ_by_name_and_port_are_asked_for_once(tmp_path: Path, asked: list[str]) -> None:
    names = [f"n{number}" for number in range(40)]
    text = "".join(f"Host n{k}\n  HostName 10.0.0.{k}\n  Port {2000 + k}\n" for k in range(40))
    found = resolved(tmp_path / "c", text + "Host *\n  User alice\n  ControlPath ~/%C\n", names)
    assert asked == ["n0"]
    assert [(each.name, each.hostname, each.port, each.user) for each in found] == [
        (f"n{k}", f"10.0.0.{k}", 2000 + k, "alice") for k in range(40)
    ]


def test_what_is_not_understood_is_left_to_ssh(tmp_path: Path, asked: list[str]) -> None:
    resolved(tmp_path / "c", "Match host n1\n  User alice\n", ["n1", "n2"])
    resolved(tmp_path / "c", "IdentityFile ~/.ssh/%h\n", ["n1", "n2"])
    resolved(tmp_path / "c", "CanonicalizeHostname no\n", ["n1", "n2"])
    assert asked == ["n1", "n2"] * 3


def test_files_that_only_ssh_has_read(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another build of ssh has its system-wide configuration elsewhere, and it may name single hosts."""
    (tmp_path / "elsewhere").write_text("Host n2\n  User eve\n")
    monkeypatch.setattr(SshConfig, "_include", lambda *_: None)
    found = resolved(tmp_path / "c", f"Include {tmp_path}/elsewhere\n", ["n1", "n2"])
    assert asked == ["n1", "n2"]
    assert found[1].user == "eve"


def test_a_configuration_with_an_error_fails_every_host(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("Host n1\n  Port 22\nHost n2\n  Prot 22\n")
    endpoints = Endpoints(tmp_path / "c")
    found = [endpoints.get(name, time.monotonic() + 60) for name in ("n1", "n2")]
    assert [isinstance(each, Failure) and "line 4" in each.message for each in found] == [True, True]
