"""What clusterctl sets where nobody else did, caches and the order of devices, and what it notes."""

from __future__ import annotations

from typing import Any

import msgspec

from clusterctl.facts.model import Facts, Variable
from clusterctl.network.choose import choose
from clusterctl.plan import caches, defaults, notes
from clusterctl.plan.build import build
from clusterctl.plan.model import Code, Request, Setting
from tests.builders import cluster, healthy, inventory

SHARED = "nfs4 filer:/home 7"


def on_shared_home(number: int = 1, **changes: Any) -> Facts:
    return healthy(number, shared_token=SHARED, **changes)


def with_tmp(facts: Facts, **changes: Any) -> Facts:
    changed = [
        msgspec.structs.replace(each, **changes) if each.role == "tmp" else each for each in facts.filesystems
    ]
    return msgspec.structs.replace(facts, filesystems=tuple(changed))


def given(facts: Facts, *own: Setting, **how: bool) -> dict[str, Setting]:
    found = defaults.of_hosts(
        inventory({facts.host: facts}, 1), {facts.host: facts}, {facts.host: own}, **how
    )
    return {setting.name: setting for setting in found[facts.host]}


def test_what_is_compiled_stays_off_a_home_that_hosts_share() -> None:
    facts = on_shared_home()
    found = given(facts)
    root = f"/tmp/.clusterctl-cache-{facts.uid}"
    assert found["TRITON_CACHE_DIR"].value == f"{root}/triton"
    assert found["TORCHINDUCTOR_CACHE_DIR"].value == f"{root}/inductor"
    torch = found["TORCH_EXTENSIONS_DIR"].value
    assert torch.startswith(f"{root}/torch_extensions/py{facts.python.version}-torch")
    assert "/" not in torch.removeprefix(f"{root}/torch_extensions/")
    assert {found[name].origin for name in caches.VARIABLES} == {caches.ORIGIN}


def test_a_home_of_its_own_stays_as_it_is() -> None:
    assert not given(healthy(1)).keys() & caches.VARIABLES.keys()


def test_whoever_has_set_one_keeps_it() -> None:
    own = Setting("TRITON_CACHE_DIR", "/fast", "--env")
    assert given(on_shared_home(), own)["TRITON_CACHE_DIR"] == own
    there = Variable("TORCH_EXTENSIONS_DIR", "/x", "environment")
    assert given(on_shared_home(variables=(there,))).keys() & caches.VARIABLES.keys() == {
        "TRITON_CACHE_DIR",
        "TORCHINDUCTOR_CACHE_DIR",
    }
    other = Setting("TRITON_HOME", "/fast", "--env")
    assert "TRITON_CACHE_DIR" not in given(on_shared_home(), other)
    assert not given(on_shared_home(), home_caches=True).keys() & caches.VARIABLES.keys()


def test_without_a_disk_for_them_it_is_said() -> None:
    for changes, why in (
        ({"noexec": True}, "nothing may be executed in /tmp"),
        ({"options": ("rw",)}, "/tmp is on a network file system"),
        ({"writable": False}, "/tmp cannot be written"),
    ):
        facts = with_tmp(on_shared_home(), **changes)
        assert not given(facts).keys() & caches.VARIABLES.keys()
        told = notes.of_hosts({facts.host: facts}, {facts.host: ()})
        assert told == (f"compiled kernels go to the shared home directory: {why} on {facts.host}",)
        assert not notes.of_hosts({facts.host: facts}, {facts.host: ()}, home_caches=True)
    assert not notes.of_hosts({"a": healthy(1)}, {"a": ()})


def test_devices_count_as_slots_do() -> None:
    facts = healthy(1, gpus=2)
    assert given(facts)["CUDA_DEVICE_ORDER"].value == "PCI_BUS_ID"
    assert "CUDA_DEVICE_ORDER" not in given(healthy(1))
    assert not notes.of_hosts({facts.host: facts}, {facts.host: ()})
    own = Setting("CUDA_DEVICE_ORDER", "FASTEST_FIRST", "--env")
    assert given(facts, own)["CUDA_DEVICE_ORDER"] == own
    assert notes.of_hosts({facts.host: facts}, {facts.host: (own,)}) == (
        f"CUDA_DEVICE_ORDER=FASTEST_FIRST (--env): slots are then not nvidia-smi's numbers on {facts.host}",
    )
    there = msgspec.structs.replace(
        facts, variables=(Variable("CUDA_DEVICE_ORDER", "FASTEST_FIRST", "environment"),)
    )
    assert "CUDA_DEVICE_ORDER" not in given(there)
    assert "set there" in notes.of_hosts({facts.host: there}, {facts.host: ()})[0]
    same = Setting("CUDA_DEVICE_ORDER", "PCI_BUS_ID", "--env")
    assert not notes.of_hosts({facts.host: there}, {facts.host: (same,)})


def test_the_plan_tells_the_node_what_to_look_at() -> None:
    facts = {**cluster(2), "node2": on_shared_home(2)}
    hosts = inventory(facts, 1)
    request = Request(
        run="r",
        start="torchrun",
        command=("{python}", "t.py"),
        code=Code(root="/p"),
        host_settings=defaults.of_hosts(hosts, facts, dict.fromkeys(facts, ())),
        caches={host: caches.place(told) for host, told in facts.items()},
        pythons=dict.fromkeys(facts, "/usr/bin/python3"),
    )
    plan = build(hosts, choose(hosts, facts), request, master_port=29500)
    assert [node.caches for node in plan.nodes] == ["", f"/tmp/.clusterctl-cache-{facts['node2'].uid}"]


def test_variables_that_stay_here_are_named_and_never_shown() -> None:
    here = {
        "WANDB_API_KEY": "secret",
        "HF_HOME": "/x",
        "NCCL_DEBUG": "INFO",
        "EDITOR": "vi",
        "CUDA_VERSION": "12",
        "OMP_NUM_THREADS": "4",
    }
    sent = Setting("OMP_NUM_THREADS", "4", "--env")
    assert notes.staying(here, {"a": (sent,), "b": (sent,)}) == (
        "set here, will not travel: HF_HOME, WANDB_API_KEY; --env HF_HOME sends one",
    )
    assert "OMP_NUM_THREADS" in notes.staying(here, {"a": (sent,), "b": ()})[0]
    assert notes.staying({"TORCH_LOGS": "+x"}, {"a": ()}) == (
        "set here, will not travel: TORCH_LOGS; --env TORCH_LOGS sends it",
    )
    assert notes.staying({"EDITOR": "vi", "NCCL_DEBUG": "1", "NVIDIA_REQUIRE_CUDA": "x"}, {"a": ()}) == ()
    many = {f"HF_{letter}": "" for letter in "ABCDEFG"}
    assert "HF_A, HF_B, HF_C, HF_D and 3 more;" in notes.staying(many, {"a": ()})[0]


def test_what_is_not_for_env_is_said_otherwise() -> None:
    told = notes.staying({"PYTHONPATH": "src", "HF_HOME": "/x", "CUDA_VISIBLE_DEVICES": "1"}, {"a": ()})
    assert [each.partition(" ")[0] for each in told] == ["set", "PYTHONPATH", "CUDA_VISIBLE_DEVICES"]
    assert "HF_HOME; --env HF_HOME sends it" in told[0]
    there = Setting("PYTHONPATH", "/src", "profile lab: activate")
    assert notes.staying({"PYTHONPATH": "src"}, {"a": (there,)}) == ()
