"""`clusterctl top` on a real terminal over 256 played hosts that answer, are broken, or stop answering."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.on_a_screen import OnAScreen
from tests.ssh_hosts import SshHosts

pytestmark = pytest.mark.long

COUNT = 256
OTHER_KEY, REFUSING = ("n0011", "n0013"), "n0100"


@pytest.fixture
def lab(tmp_path: Path) -> SshHosts:
    return SshHosts(COUNT, tmp_path)


def break_some(lab: SshHosts) -> None:
    """Two hosts have each other's keys, at one nobody listens."""
    lines = [line.split() for line in lab.known_hosts.read_text().splitlines()]
    place = {
        f"n{int(line[0].split(']')[0].rpartition('.')[2]):04}": number for number, line in enumerate(lines)
    }
    one, other = (place[name] for name in OTHER_KEY)
    lines[one][1:], lines[other][1:] = lines[other][1:], lines[one][1:]
    lab.known_hosts.write_text("".join(" ".join(line) + "\n" for line in lines))
    config = lab.ssh_config.read_text()
    found = re.search(rf"Host {REFUSING}\n  HostName (\S+)\n", config)
    assert found is not None
    lab.ssh_config.write_text(config.replace(f"{found[1]}\n", "127.78.0.1\n"))


def rows(shown: list[str]) -> dict[str, str]:
    return {line.split()[0]: line for line in shown if re.match(r"n\d{4} ", line)}


def words(lab: SshHosts, *more: str) -> list[str]:
    return ["top", "-H", str(lab.hostfile), "--ssh-config", str(lab.ssh_config), *more]


def test_all_are_rows_in_the_order_of_the_hostfile_whatever_becomes_of_them(lab: SshHosts) -> None:
    with lab:
        break_some(lab)
        with OnAScreen(words(lab, "--plain"), columns=80, lines=2 * COUNT + 10) as seen:
            shown = seen.wait_for("3 without an answer", without="no answer yet")
            assert list(rows(shown)) == lab.names
            assert max(map(len, shown)) <= 80
            for name, row in rows(shown).items():
                if name in OTHER_KEY:
                    assert "host key" in row, row
                elif name == REFUSING:
                    assert "refuses the connection" in row, row
                else:
                    assert row.startswith(f"{name} cpu"), row
            os.kill(lab.pids[1], signal.SIGSTOP)
            half = [name for name in lab.names if int(name[1:]) % 2 and name not in OTHER_KEY]
            seen.wait_for(f"{len(half) + 3} without an answer", *(f"{name} nothing new" for name in half))
            assert list(rows(seen.display)) == lab.names
            assert "n0000 cpu" in "\n".join(seen.display)
            os.kill(lab.pids[1], signal.SIGCONT)
            shown = seen.wait_for("3 without an answer", without="nothing new")
            assert list(rows(shown)) == lab.names
            seen.press("\x03")
            assert seen.end() == 0


def test_keys_are_answered_while_all_of_them_tell(lab: SshHosts) -> None:
    with lab:
        break_some(lab)
        with OnAScreen(words(lab, "--watch", "0.5"), columns=80) as seen:
            seen.wait_for("3 without an answer", f"1-21 of {COUNT}")
            seen.press("\x1b[F")
            shown = seen.wait_for(f"236-{COUNT} of {COUNT}", "n0255 cpu")
            assert list(rows(shown)) == lab.names[-21:]
            seen.press("/n0100\r")
            assert list(rows(seen.wait_for("refuses the connection", without="n0255"))) == [REFUSING]
            seen.press("\x1b[H")
            seen.press("q")
            assert seen.end() == 0
            assert seen.settings == seen.settings_before
