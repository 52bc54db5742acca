"""Memory, traffic and recommendation: the published figures, and what must hold of any job."""

from __future__ import annotations

import msgspec
import pytest

from clusterctl.advise.fit import memory, traffic
from clusterctl.advise.fit.config import ds_config
from clusterctl.advise.fit.job import STRATEGIES, Job, Strategy, World
from clusterctl.advise.fit.recommend import Advice, advise
from clusterctl.advise.fit.shapes import of_config, of_size

NAMED = {each.name: each for each in STRATEGIES}
SEVEN = of_size(7_000_000_000)
LLAMA_2 = of_config(
    {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 32000,
    }
)


def whole(strategy: Strategy, ranks: int, job: Job, size: int = 7_000_000_000) -> float:
    """GB of a rank's states with the gradients it keeps."""
    own = memory.states(of_size(size), job, strategy, ranks)
    return (own.weights + own.master + own.moments + own.gradients) / 1e9


@pytest.mark.parametrize(
    ("size", "ranks", "said"),
    [
        (7_000_000_000, 4, {"ddp": 112, "zero1": 49, "zero2": 38.5, "zero3": 28}),
        (7_000_000_000, 2, {"ddp": 112, "zero1": 70, "zero2": 63, "zero3": 56}),
        (7_500_000_000, 64, {"ddp": 120, "zero1": 31.4, "zero2": 16.6, "zero3": 1.9}),
    ],
)
def test_states_are_those_of_the_paper(size: int, ranks: int, said: dict[str, float]) -> None:
    job = Job(accumulation=2)
    for name, expected in said.items():
        assert whole(NAMED[name], ranks, job, size) == pytest.approx(expected, rel=0.02), name


def test_deepspeed_in_fp32_keeps_a_partition_of_the_weights_besides() -> None:
    job = Job(precision="fp32")
    assert whole(NAMED["zero2"], 2, job) == pytest.approx(7 * (4 + 16 / 2))
    assert whole(NAMED["ddp"], 2, job) == pytest.approx(7 * 16)


def test_adapters_cost_their_own_parameters_only() -> None:
    lora, qlora = Job(method="lora", lora_rank=8), Job(method="qlora", lora_rank=8)
    frozen, learn = 2 * LLAMA_2.parameters, LLAMA_2.lora(8)
    own = memory.states(LLAMA_2, lora, NAMED["zero2"], 4)
    assert own.weights == frozen + 2 * learn and own.master + own.moments == 12 * learn // 4
    packed = memory.states(LLAMA_2, qlora, NAMED["ddp"], 1).weights
    assert packed / 1e9 == pytest.approx(3.9, rel=0.02), "3.3 of blocks, 0.5 of embeddings"
    half = memory.states(LLAMA_2, qlora, NAMED["zero3"], 2).weights
    assert packed / 2 < half < packed / 1.9, "scales are not sharded"
    assert {
        each.strategy.name for each in advise(LLAMA_2, qlora, World(ranks=(1,), device=10**11)).candidates
    }.isdisjoint({"zero3-offload", "zero3-nvme"})


def test_seconds_are_those_of_a_ten_gigabit_network() -> None:
    job, world = Job(accumulation=8), World(ranks=(1,) * 1000, bandwidth=1.1e9)
    sent = {name: traffic.of(SEVEN, job, NAMED[name], world) for name in ("ddp", "zero1", "zero2", "zero3")}
    assert {name: round(each.by_default / 1.1e9) for name, each in sent.items()} == {
        "ddp": 25,
        "zero1": 38,
        "zero2": 216,
        "zero3": 302,
    }
    assert [round(each.seconds or 0) for each in sent.values()] == [25, 25, 114, 302]


def test_gloo_sends_what_was_counted_at_the_interfaces() -> None:
    """5.26 M parameters in fp32 on 2 and 4 ranks: bytes of one rank, over those of all weights."""
    shape = msgspec.structs.replace(of_size(5_255_680), parameters=5_255_680)
    job = Job(precision="fp32", bucket=5_000_000, reuse=10**9)
    for ranks, name, counted in (
        (2, "ddp", 1.001),
        (2, "zero1", 1.589),
        (2, "zero2", 1.576),
        (2, "zero3", 1.516),
        (4, "zero2", 1.690),
    ):
        world = World(ranks=(1,) * ranks, library="gloo")
        said = traffic.of(shape, job, NAMED[name], world).bytes / (4 * shape.parameters)
        assert said == pytest.approx(counted, rel=0.015), (name, ranks)


def test_zero_3_gathers_a_small_model_once_if_it_may_keep_it() -> None:
    every, once = (
        traffic.collectives(LLAMA_2, Job(reuse=reuse), NAMED["zero3"]).all_gather for reuse in (0, 10**11)
    )
    assert every == 2 * once == 4 * LLAMA_2.parameters


@pytest.mark.parametrize(
    ("config", "counted"),
    [
        (
            {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 3, "vocab_size": 4000},
            12.48e6,
        ),
        ({"hidden_size": 256, "intermediate_size": 896, "num_hidden_layers": 4, "vocab_size": 3000}, 8.27e6),
    ],
    ids=["three layers", "four"],
)
def test_zero_3_gathers_what_was_counted(config: dict[str, int], counted: float) -> None:
    """On 2 and 3 ranks, with the config that `--write` writes."""
    heads = {"num_attention_heads": config["hidden_size"] // 64, "num_key_value_heads": 2}
    if config["hidden_size"] == 256:
        heads["num_attention_heads"] = 8
    shape = of_config({"model_type": "llama", **config, **heads})
    made = traffic.collectives(shape, Job(precision="bf16"), NAMED["zero3"])
    assert made.all_gather / 2 == pytest.approx(counted, rel=0.01)


def test_packed_weights_pass_through_the_host_one_by_one() -> None:
    world = World(ranks=(2,), device=24 * 10**9, host=16 * 10**9)
    fits = {
        method: advise(LLAMA_2, msgspec.convert({"checkpointing": True, "method": method}, Job), world)
        for method in ("lora", "qlora")
    }
    assert fits["qlora"].ranked and not fits["lora"].ranked
    assert any("each rank loads the model" in reason for reason in fits["lora"].reasons)


def test_nothing_is_sent_where_nobody_else_is() -> None:
    for strategy in STRATEGIES:
        told = traffic.of(SEVEN, Job(), strategy, World(ranks=(1,), bandwidth=1e9))
        assert told.bytes == 0 and told.seconds is None
    assert traffic.of(SEVEN, Job(), NAMED["ddp"], World(ranks=(8,), bandwidth=1e9)).seconds is None


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda each: each.name)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_memory_grows_with_the_batch_and_its_range_holds_it(strategy: Strategy, method: str) -> None:
    world, before = World(ranks=(4, 4), device=80 * 10**9), 0
    for micro_batch in (1, 2, 8, 64):
        job = msgspec.convert({"micro_batch": micro_batch, "method": method}, Job)
        peak = memory.on_device(LLAMA_2, job, strategy, world).peak
        assert before <= peak.bytes and peak.low <= peak.bytes <= peak.high
        before = peak.bytes


def test_checkpointing_and_flash_attention_save_what_they_should() -> None:
    world = World(ranks=(8,), device=80 * 10**9)

    def peak(**how: bool) -> int:
        job = msgspec.convert({"micro_batch": 8, **how}, Job)
        return memory.on_device(LLAMA_2, job, NAMED["zero3"], world).peak.bytes

    assert peak(checkpointing=True) < peak() / 3 < peak(flash=False) / 3


def on(device: str, **job: object) -> Advice:
    hosts, gpus, size = (int(part) for part in device.split("x"))
    world = World(ranks=(gpus,) * hosts, device=size * 10**9, bandwidth=1.1e9)
    return advise(LLAMA_2, msgspec.convert({"checkpointing": True, **job}, Job), world)


def test_what_fits_and_sends_least_is_recommended() -> None:
    assert on("2x8x160").ranked[0] == "zero2", "as few bytes as ddp, and less memory"
    assert on("2x8x160", accumulation=4).ranked[0] == "zero1", "as few bytes as ddp still"
    assert on("1x1x160").ranked[0] == "ddp", "one rank shards nothing"
    assert on("2x4x24").ranked[0] == "zero3", "nothing else fits"
    assert on("1x1x24").ranked[0] == "zero2-offload" and "slower" in on("1x1x24").reasons[0]
    assert on("1x1x2").ranked == () and any("--lora" in reason for reason in on("1x1x2").reasons)
    assert on("2x4x24", method="lora").ranked[0] in ("ddp", "zero1")
    without = advise(LLAMA_2, Job(), World(ranks=(4, 4), device=24 * 10**9))
    assert without.ranked[0].endswith("offload") and "--checkpointing zero3" in without.reasons[-1]


def test_the_largest_batch_fits_and_the_next_does_not() -> None:
    world = World(ranks=(4, 4), device=48 * 10**9)
    for each in advise(LLAMA_2, Job(checkpointing=True), world).candidates:
        if each.largest:
            sizes = [
                memory.on_device(
                    LLAMA_2, Job(checkpointing=True, micro_batch=n), each.strategy, world
                ).peak.bytes
                for n in (each.largest, each.largest + 1)
            ]
            assert sizes[0] <= 48 * 10**9 < sizes[1], each.strategy.name
        else:
            assert each.verdict == "too large"


def test_hosts_with_cpus_have_one_memory() -> None:
    cpus = World(ranks=(2, 2), host=24 * 10**9, library="gloo")
    found = advise(of_size(125_000_000), Job(), cpus)
    assert not [each for each in found.candidates if each.strategy.offloads]
    assert found.ranked
    for each in advise(SEVEN, Job(), cpus).candidates:
        assert each.verdict == "too large"
        assert each.host.peak.bytes > 2 * each.device.peak.bytes > 24 * 10**9, "both ranks train in it"


def test_gpus_of_unknown_memory_have_a_context_all_the_same() -> None:
    known, unknown = (
        memory.on_device(SEVEN, Job(), NAMED["zero3"], World(ranks=(2,), device=device))
        for device in (80 * 10**9, None)
    )
    assert known == unknown and unknown.of("overhead")


def test_without_any_memory_nothing_is_judged() -> None:
    found = advise(SEVEN, Job(), World(ranks=(1,)))
    assert (
        {each.verdict for each in found.candidates} == {"unknown"} and not found.ranked and not found.reasons
    )


def test_host_memory_refuses_what_is_offloaded_into_it() -> None:
    small = World(ranks=(1,), device=24 * 10**9, host=64 * 10**9)
    found = {each.strategy.name: each for each in advise(LLAMA_2, Job(checkpointing=True), small).candidates}
    assert found["zero2-offload"].lacks == "host" and found["zero2-offload"].verdict == "too large"


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda each: each.name)
def test_the_config_holds_what_was_assumed(strategy: Strategy) -> None:
    config = ds_config(LLAMA_2, Job(accumulation=4), strategy, on_cpu=False)
    zero = config["zero_optimization"]
    assert config["bf16"] == {"enabled": True} and config["gradient_accumulation_steps"] == 4
    assert "train_batch_size" not in config
    assert ("offload_optimizer" in zero, "offload_param" in zero) == (
        strategy.states != "device",
        strategy.weights != "device",
    )
    assert zero.get("use_multi_rank_bucket_allreduce", False) is False
    assert zero["stage"] == strategy.stage
    for on_cpu in (True, False):
        written = ds_config(LLAMA_2, Job(), strategy, on_cpu=on_cpu)["optimizer"]["params"]
        assert written.get("torch_adam", False) is on_cpu, "DeepSpeed's own is compiled there"
