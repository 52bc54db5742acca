"""A spare takes the place of a host, on hosts that share a directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterctl.sandbox import Sandbox
from clusterctl.sandbox.spec import numbered
from tests.integration.launching import Launch, launch, start
from tests.integration.pretraining import TINY, losses, records
from tests.integration.test_restart import COUNTS, rank_pid
from tests.integration.test_succession import attach, ends, kill_controller

pytestmark = pytest.mark.sandbox
_PATIENCE = 900


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all hosts see."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def spared(namespaces: None, shared: Path) -> Iterator[Sandbox]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shared)  # what a sandbox is started in, its hosts see
        box = Sandbox.create("spared", numbered(4, (1,)))
    with box:
        yield box


def has_printed(found: Launch, name: str, text: str) -> bool:
    log = found.run / "logs" / name if found.events() else None
    return log is not None and log.exists() and text in log.read_text()


def test_a_host_that_nobody_can_log_in_to_again_is_replaced(spared: Sandbox, shared: Path) -> None:
    """Its ranks have ended, and it has said so: nothing has to be waited for."""
    project = shared / "counting"
    project.mkdir()
    (project / "counts.py").write_text(COUNTS)
    options = ["--include", "node1@node2@node3", "--spares", "1", "--max-restarts", "1"]
    found = start(spared, "counts.py", "1", cwd=project, options=options)
    found.wait_for(lambda events: has_printed(found, "node2/rank-1.log", "step 25/100"))
    pid = rank_pid(found.events(), 1, 1)
    spared.host("node2").stop_sshd()
    try:
        spared.host("node2").run(["kill", "-9", str(pid)])
        found.finish()
    finally:
        spared.host("node2").start_sshd()
    assert found.code == 0, found.text
    assert [each["hosts"] for each in found.outcome["attempts"]] == [["node1", "node2"], ["node1", "node3"]]
    assert "node3 takes the place of node2, node rank 1" in found.text
    log = (found.run / "logs/node3/rank-1.attempt-2.log").read_text()
    assert log.startswith("attempt 2 from 20"), "the shared working directory holds what node2 had saved"


@pytest.fixture(scope="module")
def undisturbed(spared: Sandbox, shared: Path) -> dict[int, float]:
    """The losses of a run that nothing happens to."""
    calm = launch(spared, *training("calm", shared), cwd=shared, options=["--include", "node1@node2@node3"])
    assert calm.code == 0, calm.text
    found = losses(shared / "calm.jsonl")
    assert sorted(found) == list(range(1, 101))
    return found


def training(name: str, shared: Path) -> list[str]:
    """100 steps, with what it saves and tells beside those of others in ``shared``."""
    steps = ["--steps", "100", "--log_every", "1", "--save_every", "10", "--dropout", "0.1"]
    place = ["--save_dir", str(shared / name), "--metrics", str(shared / f"{name}.jsonl")]
    return ["--", *TINY, *steps, *place]


@pytest.mark.long
@pytest.mark.training
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "killed", [False, True], ids=["one controller", "controller killed between attempts"]
)
def test_a_link_cut_at_step_40_costs_no_bit_of_the_loss(
    spared: Sandbox, shared: Path, undisturbed: dict[int, float], killed: bool
) -> None:
    name = "killed" if killed else "cut"
    options = ["--spares", "1", "--max-restarts", "2", *["--detach"] * killed]
    found = start(spared, *training(name, shared), cwd=shared, options=options)
    if killed:
        found.finish()
        attach(found)
    found.wait_for(lambda events: has_printed(found, "node1/rank-0.log", " 40/100"))
    spared.host("node2").set_link("eth0", False)
    try:
        if killed:
            found.wait_for(lambda _: ends(found) == 1)
            found.process.kill()
            kill_controller(found)
            attach(found)
        found.text, _ = found.process.communicate(timeout=_PATIENCE)
    finally:
        spared.host("node2").set_link("eth0", True)
    print(found.text)
    assert found.code == 0, found.text
    first, second = found.outcome["attempts"]
    assert (first["status"], first["cause"]["host"]) == ("lost", "node2")
    assert second["hosts"] == ["node1", "node4", "node3"]
    assert second["resumed"] in ("step-000030", "step-000040")
    assert found.outcome["left_behind"] == {"node1": 0, "node2": None, "node3": 0, "node4": 0}
    spent = found.outcome["spent"]
    assert spent["detection"] > 5 and spent["detection_at_most"], spent
    assert losses(shared / f"{name}.jsonl") == undisturbed
    twice = [record["step"] for record in records(shared / f"{name}.jsonl", "step")]
    assert len(twice) > len(set(twice)) or second["resumed"] == "step-000040"
