"""`clusterctl top` on a real terminal over six hosts, three of which are broken, each in its own way."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterctl.ask.host_session import MARK
from clusterctl.sandbox import Sandbox
from clusterctl.sandbox.spec import numbered
from tests.conftest import MakeSandbox
from tests.on_a_screen import OnAScreen

pytestmark = [pytest.mark.sandbox, pytest.mark.long]

BABBLE = (
    f'head -c 300000 /dev/urandom; printf \'\\n%s\\n\' \'{MARK.decode()}{{"is": "seen", "time": "\x1b[2J"}}\''
)


def rows(shown: list[str]) -> dict[str, str]:
    return {line.split()[0]: line for line in shown if line.startswith("node")}


@pytest.mark.parametrize(("columns", "form"), [(80, []), (120, []), (80, ["--plain"])])
def test_each_broken_host_is_a_row_with_its_reason_and_the_others_go_on(
    make_sandbox: MakeSandbox, tmp_path: Path, columns: int, form: list[str]
) -> None:
    box: Sandbox = make_sandbox(numbered(6, (1,)))
    box.hosts[1].stop_sshd()
    box.hosts[4].shell_profile(BABBLE)
    words = ["top", "-H", str(box.hostfile), "--ssh-config", str(box.ssh_config), "--watch", "0.5", *form]
    with OnAScreen(words, columns=columns, lines=30) as seen:
        seen.wait_for("node6 cpu")
        assert list(rows(seen.display)) == [f"node{number}" for number in range(1, 7)]
        seen.wait_for(
            "node1 cpu", "node3 cpu", "node4 cpu", "node2 ", "node5 it sent", without="no answer yet"
        )
        broken = rows(seen.display)
        assert "refuses the connection" in broken["node2"], broken
        assert "it sent something that is not a message" in broken["node5"], broken
        box.hosts[3].freeze()
        try:
            shown = seen.wait_for("node4 nothing new; last heard")
            assert not any("nothing new" in rows(shown)[name] for name in ("node1", "node3", "node6"))
            assert max(map(len, shown)) <= columns
        finally:
            box.hosts[3].thaw()
        seen.wait_for("node4 cpu", without="node4 nothing new")
        seen.press("\x03" if form else "q")
        assert seen.end() == 0
    assert not [pid for host in box.hosts for pid in host.pids() if b"clusterctl" in cmdline(pid)]


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
