"""Where a name leads: the real `ssh -G` reads configurations written here."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import msgspec
import pytest

from clusterctl.errors import UsageError
from clusterctl.transport import connect, failures
from clusterctl.transport.endpoint import Endpoint, parse_hop
from clusterctl.transport.protocol import Failure
from clusterctl.transport.resolve import resolve


def endpoint(tmp_path: Path, config: str, name: str, port: int | None = None) -> Endpoint:
    file = tmp_path / "config"
    file.write_text(config, encoding="utf-8")
    found = resolve(name, file, time.monotonic() + 20, port=port)
    assert isinstance(found, Endpoint), found
    return found


def test_include_and_match_are_followed(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("Host gpu*\n  Port 2222\n  HostName %h.lab\n")
    config = f"Include {tmp_path}/more\nMatch host gpu7.lab\n  User alice\nMatch exec false\n  User eve\n"
    found = endpoint(tmp_path, config, "gpu7")
    assert (found.hostname, found.port, found.user) == ("gpu7.lab", 2222, "alice")
    assert found.key_names == ("[gpu7.lab]:2222", "gpu7.lab")


def test_a_user_in_the_name_wins(tmp_path: Path) -> None:
    found = endpoint(tmp_path, "Host *\n  User bob\n", "carol@gpu1")
    assert (found.name, found.hostname, found.user) == ("carol@gpu1", "gpu1", "carol")


def test_options_are_read(tmp_path: Path) -> None:
    config = (
        "Host gpu1\n  HostKeyAlias lab-gpu\n  StrictHostKeyChecking accept-new\n  ConnectTimeout 3\n"
        "  IdentityFile ~/.ssh/%n_key\n  IdentitiesOnly yes\n  UserKnownHostsFile /a /b\n"
        "  HashKnownHosts yes\n  ProxyCommand nc -x %r %h %p %%\n  AddressFamily inet\n"
    )
    found = endpoint(tmp_path, config, "gpu1", port=2200)
    assert found.key_names == ("lab-gpu",)
    assert found.strict_host_keys == "accept-new"
    assert found.connect_timeout == 3.0
    assert found.identity_files[0].name == "gpu1_key"
    assert found.identity_files[0].is_absolute()
    assert found.identities_only
    assert found.user_known_hosts == (Path("/a"), Path("/b"))
    assert found.hash_known_hosts
    assert found.proxy_command == f"nc -x {found.user} gpu1 2200 %"
    assert found.address_family == "inet"


def test_jumps_are_listed_in_order(tmp_path: Path) -> None:
    assert endpoint(tmp_path, "Host g\n  ProxyJump a,bob@b:2222\n", "g").jumps == ("a", "bob@b:2222")
    assert endpoint(tmp_path, "Host g\n  ProxyJump none\n", "g").jumps == ()


@pytest.mark.parametrize(
    ("hop", "parsed"),
    [
        ("bastion", ("bastion", None)),
        ("bob@bastion:2222", ("bob@bastion", 2222)),
        ("ssh://bob@bastion:22", ("bob@bastion", 22)),
        ("fe80::1", ("fe80::1", None)),
        ("bob@[fe80::1]:2222", ("bob@fe80::1", 2222)),
    ],
)
def test_hops(hop: str, parsed: tuple[str, int | None]) -> None:
    assert parse_hop(hop) == parsed


@pytest.mark.parametrize(
    "name", ["-oProxyCommand=touch /tmp/x", "", "a b", "a;b", "$(id)", "a`id`", "x\ny", "'"]
)
def test_names_that_could_become_options_or_shell_are_refused(name: str) -> None:
    found = resolve(name, None, time.monotonic() + 20)
    assert isinstance(found, Failure)
    assert found.stage == "resolve"


def test_a_broken_configuration_is_quoted(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("Host *\n  Prot 22\n")
    found = resolve("gpu1", file, time.monotonic() + 20)
    assert isinstance(found, Failure)
    assert found.stage == "resolve"
    assert found.message == f"{file} line 2: Bad configuration option: prot"
    assert f"correct {file} line 2" in found.hint
    assert f"`ssh -G -F {file} gpu1` must work" in found.hint


def test_cures_name_the_configuration_that_was_read(tmp_path: Path) -> None:
    own = endpoint(tmp_path, "Host gpu1\n  HostName gpu1.invalid\n", "gpu1")
    refused = OSError(errno.ECONNREFUSED, "refused")
    for found in (failures.unresolved(own), failures.unconnected(own, refused, 1.0)):
        assert found.hint.endswith(str(own.config))
    usual = msgspec.structs.replace(own, config=None)
    assert failures.unresolved(usual).hint.endswith("to ~/.ssh/config")


def test_a_match_that_hangs_is_cut(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text('Match exec "sleep 60"\n  Port 1\n')
    found = resolve("gpu1", file, time.monotonic() + 0.5)
    assert isinstance(found, Failure)
    assert found.stage == "deadline"


def test_a_configuration_that_cannot_be_read_stops_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config"
    with pytest.raises(UsageError, match="config is not a file"):
        connect(ssh_config=file)
    file.write_text("")
    connect(ssh_config=file).close()

    def refused(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(UsageError, match="config cannot be read: Permission denied"):
        connect(ssh_config=file)
