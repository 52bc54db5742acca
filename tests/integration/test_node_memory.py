"""Who was killed for memory, asked of this kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.node.run.memory import OutOfMemory

_FIRST = Path("/sys/fs/cgroup/memory")
_JOINS_AND_FILLS = "import sys; open(sys.argv[1], 'w').write('0'); bytearray(256 << 20)"


@pytest.fixture
def limited() -> Iterator[Path]:
    """A control group of 64 MiB, not this process's own."""
    unified = not _FIRST.exists()
    group = (_FIRST.parent if unified else _FIRST) / f"clusterctl-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(64 << 20))
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield group
    group.rmdir()


def test_the_kernel_says_which_process_it_killed_for_memory_and_which_it_did_not(limited: Path) -> None:
    memory = OutOfMemory()
    if memory.log is None:
        pytest.skip("the kernel's log cannot be read here")
    join = str(limited / "cgroup.procs")
    with subprocess.Popen([sys.executable, "-c", _JOINS_AND_FILLS, join]) as greedy:
        assert greedy.wait() == -signal.SIGKILL
    with subprocess.Popen(["sleep", "600"]) as other:
        other.kill()
    assert memory.limit_that_killed(other.pid) == ""
    assert memory.limit_that_killed(greedy.pid) in (
        f"the memory limit of control group /{limited.name}, 67 MB",
        f"the memory limit of control group /{limited.name}",  # its files lie elsewhere than ours
    )
