"""Which checkpoint all hosts go on from together: values in, a choice out."""

from __future__ import annotations

from collections.abc import Iterable

from clusterctl.messages.checkpoints import CheckpointFile, HostCheckpoint
from clusterctl.messages.relay import Checkpoints
from clusterctl.run.checkpoints import Choice, Latest, choose
from clusterctl.run.resuming import in_words
from tests.test_run_machine import plan

MODEL = "mp_rank_00_model_states.pt"


def shard(rank: int) -> str:
    return f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"


def ds(step: int, ranks: Iterable[int], *, torn: str = "", model: bool = True) -> HostCheckpoint:
    names = [*([MODEL] if model else []), *map(shard, ranks)]
    files = tuple(CheckpointFile(name, "its end is missing" if name == torn else "") for name in names)
    return HostCheckpoint(tag=f"global_step{step}", kind="deepspeed", step=step, files=files)


def host(*found: HostCheckpoint, latest: str | None = None) -> Checkpoints:
    return Checkpoints(directory="/ckpt", latest=latest, found=found)


def chosen(*hosts: Checkpoints) -> Choice:
    return choose(plan(len(hosts)), {f"h{number}": each for number, each in enumerate(hosts)})


def test_on_a_shared_directory_the_newest_whole_one_wins_and_latest_is_right_already() -> None:
    view = host(ds(40, [0, 1, 2]), ds(30, [0, 1, 2]), latest="global_step40")
    choice = chosen(view, view, view)
    assert (choice.tag, choice.step, choice.latest, choice.skipped) == ("global_step40", 40, (), ())
    assert choice.directories["h2"] == "/ckpt/global_step40"


def test_a_torn_one_is_skipped_and_latest_no_longer_names_it() -> None:
    view = host(ds(40, [0, 1], torn=shard(1)), ds(30, [0, 1]), latest="global_step40")
    choice = chosen(view, view)
    assert choice.tag == "global_step30"
    assert choice.skipped == (("global_step40", f"{shard(1)} on h0: its end is missing"),)
    assert choice.latest == tuple(Latest(name, "/ckpt", "global_step30") for name in ("h0", "h1"))


def test_a_shard_that_nobody_has_makes_it_incomplete() -> None:
    view = host(ds(40, [0, 2]), ds(30, [0, 1, 2]), latest="global_step30")
    choice = chosen(view, view, view)
    assert (choice.tag, choice.skipped) == ("global_step30", (("global_step40", "2 of 3 optimizer shards"),))


def test_on_disks_of_their_own_every_host_gets_the_latest_that_deepspeed_wrote_on_one() -> None:
    choice = chosen(host(ds(40, [0]), latest="global_step40"), host(ds(40, [1])))
    assert (choice.tag, choice.latest) == ("global_step40", (Latest("h1", "/ckpt", "global_step40"),))


def test_shards_that_lie_on_other_hosts_than_their_ranks_are_of_no_use_there() -> None:
    choice = chosen(host(ds(40, [1])), host(ds(40, [0])))
    assert choice.skipped == (("global_step40", "h0 lacks the shard of its rank 0"),)
    replaced = chosen(host(ds(40, [0, 1])), host())
    assert replaced.skipped == (("global_step40", "h1 holds nothing of it"),)


def test_one_of_another_world_is_said_to_be() -> None:
    view = host(ds(40, range(4)))
    assert chosen(view, view).skipped == (("global_step40", "written by 4 ranks, this run has 2"),)


def test_without_zero_the_model_states_are_all() -> None:
    view = host(ds(40, []))
    assert chosen(view, view).tag == "global_step40"
    assert chosen(host(ds(40, [], model=False))).skipped == (("global_step40", "no model states"),)


def test_other_formats() -> None:
    def of(kind: str, *names: str, expected: tuple[str, ...] = (), world: int | None = None) -> Checkpoints:
        files = tuple(map(CheckpointFile, names))
        made = HostCheckpoint(
            tag="c-7",
            kind=kind,  # type: ignore[arg-type]
            step=7,
            files=files,
            expected=expected,
            world_size=world,
        )
        return host(made)

    def why(*hosts: Checkpoints) -> str:
        choice = chosen(*hosts)
        return choice.skipped[0][1] if choice.skipped else ""

    assert why(of("shipped", MODEL, shard(0), "complete.json", world=1)) == ""
    assert why(of("shipped", MODEL, shard(0))) == "it was not finished"
    assert why(of("shipped", MODEL, shard(0), world=2)) == "written by 2 ranks, this run has 1"
    assert why(of("dcp", "__0_0.distcp")) == "it was not finished"
    both = ("__0_0.distcp", "__1_0.distcp")
    assert why(of("dcp", ".metadata", both[0], expected=both), of("dcp", both[1])) == ""
    assert why(of("dcp", ".metadata", both[0], expected=both)) == "__1_0.distcp is missing"
    state = "trainer_state.json"
    assert why(of("trainer", state, "model.safetensors")) == ""
    assert why(of("trainer", state)) == "no weights"
    assert why(of("trainer", "model.safetensors")) == "trainer_state.json is missing"
    assert why(*[of("trainer", state, "model.safetensors", "rng_state_0.pth")] * 2) == "1 of 2 random states"
    inner = of("trainer", state, f"global_step7/{MODEL}", f"global_step7/{shard(0)}")
    assert chosen(inner).latest == (Latest("h0", "/ckpt/c-7", "global_step7"),)


def test_the_operator_reads_one_line() -> None:
    view = host(ds(40, [0], torn=MODEL), ds(30, [0]))
    choice = chosen(view)
    said = in_words(plan(1), choice)
    assert said.startswith("goes on from step 30: /global_step30; not whole: global_step40 (mp_rank_00_model")
    assert "no whole checkpoint" in in_words(plan(1), chosen(host()))
