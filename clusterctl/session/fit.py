"""What a model needs on given machines: the model's shape and the machines' memory are read, all else is
formulas."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from clusterctl.advise.fit import unfamiliar
from clusterctl.advise.fit.job import Job, Library, World
from clusterctl.advise.fit.recommend import Advice, advise
from clusterctl.advise.fit.shapes import Shape, UnknownFamilyError, of_config, of_size
from clusterctl.errors import NoAnswerError, UsageError
from clusterctl.facts.model import Facts
from clusterctl.inventory.fold import fold
from clusterctl.network.bandwidth import capacities
from clusterctl.session.examine import Examination
from clusterctl.session.told_by_python import told

_SIZE = re.compile(r"(\d+(?:\.\d+)?(?:e\+?\d{1,2})?)\s*([KMBT]?)", re.IGNORECASE)
_POWERS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_LONGEST_CONFIG = 1 << 20
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


class Model(msgspec.Struct, frozen=True):
    """A shape, and where it comes from in words."""

    shape: Shape
    how: str


class Machines(msgspec.Struct, frozen=True, kw_only=True):
    """``notes`` say where the figures come from, what bounds them, and what lies idle."""

    world: World
    notes: tuple[str, ...] = ()


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """Question and answer, whole."""

    model: Model
    job: Job
    machines: Machines
    advice: Advice


def fit(model: Model, job: Job, machines: Machines) -> Fit:
    """What each strategy needs, and which to take. Raises UsageError for a sequence the model was not made
    for."""
    limit = model.shape.limit
    if limit is not None and job.sequence > limit:
        raise UsageError(
            f"a sequence of {job.sequence} tokens, but the model was made for {limit}", hint=f"--seq {limit}"
        )
    return Fit(model=model, job=job, machines=machines, advice=advise(model.shape, job, machines.world))


def read_size(text: str) -> int | None:
    """Parameters of ``7B``, ``1.3b``, ``125M``, ``7e9`` or a whole number; None for what is no size."""
    found = _SIZE.fullmatch(text.strip())
    return round(float(found[1]) * _POWERS[found[2].upper()]) if found else None


def read_model(text: str) -> Model:
    """Of a directory with config.json, such a file, a size, or a name of the hub that this machine's cache
    holds. Nothing is downloaded. Raises UsageError where there is none."""
    path = Path(text).expanduser()
    if path.is_dir():
        return _of_file(path / "config.json")
    if path.is_file():
        return _of_file(path)
    size = read_size(text)
    if size is not None:
        return Model(of_size(size), "an assumed Llama-like shape")
    cached = _in_cache(text)
    if cached is not None:
        return _of_file(cached)
    raise _no_model(text)


def _no_model(text: str) -> UsageError:
    size = "or give a size such as 7B"
    if re.fullmatch(r"[+-]?[\d.,]+\s*\w{0,2}", text):
        return UsageError(
            f"{text} is not a size, and not the name of a model", hint="a size is 7B, 350M or 7e9"
        )
    if not _HUB_NAME.fullmatch(text):
        return UsageError(
            f"there is no model {text}: no such file or directory", hint=f"name its directory, {size}"
        )
    return UsageError(
        f"there is no model {text}: no such directory, and none of that name in the Hugging Face cache",
        hint=f"hf download {text} config.json, {size}",
    )


def _in_cache(name: str) -> Path | None:
    """The newest config.json of a model that was once downloaded."""
    if not _HUB_NAME.fullmatch(name):
        return None
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    folder = hub / f"models--{name.replace('/', '--')}"
    try:
        revision = (folder / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        revision = "*"
    found = sorted(folder.glob(f"snapshots/{revision}/config.json")) if "/" not in revision else []
    return found[-1] if found else None


def _of_file(path: Path) -> Model:
    try:
        if path.stat().st_size > _LONGEST_CONFIG:
            raise UsageError(f"{path} is too long for a config.json", hint="name the model's directory")
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="name a directory that holds config.json"
        ) from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON", hint="name the config.json of a model") from error
    if not isinstance(config, dict):
        raise UsageError(f"{path} holds no JSON object", hint="name the config.json of a model")
    family = config.get("model_type")
    if not isinstance(family, str) or not family:
        raise UsageError(
            f"{path} has no model_type, which says what kind of model it is",
            hint='"model_type": "llama", or --params 7B instead of a model',
        )
    try:
        return Model(of_config(config), str(path))
    except UnknownFamilyError as error:
        data = told("model_shape", str(path))
        if data is None:
            raise error from None
    try:
        built = unfamiliar.decode(data)
    except msgspec.MsgspecError as problem:
        raise UsageError(
            f"{family} is a model of another kind than fit counts: {problem}",
            hint="--params N for an assumed shape of so many parameters",
        ) from problem
    return Model(unfamiliar.of_built(built, family), str(path))


def imagined(
    *, hosts: int, gpus: int | None, device: int | None, host: int | None, bandwidth: float | None
) -> Machines:
    """Machines that nobody was asked about. Where only their memory is given they have CPUs, and one rank."""
    if hosts < 1 or (gpus is not None and gpus < 1):
        raise UsageError("--hosts and --gpus are whole numbers above 0", hint="--hosts 2 --gpus 4")
    library: Library = "gloo" if host is not None and gpus is None and device is None else "nccl"
    world = World(ranks=(gpus or 1,) * hosts, device=device, host=host, bandwidth=bandwidth, library=library)
    return Machines(world=world, notes=("no host was asked: all figures are as given",))


def machines_of(seen: Examination, *, bandwidth: float | None = None) -> Machines:
    """Those of an examination: the smallest GPU bounds all, and the host with the least memory; ``bandwidth``
    stands above what was measured, and that above what the interfaces say of themselves.

    Raises NoAnswerError where a host is missing: what it has could be the least.
    """
    inventory, facts = seen.material.inventory, seen.answers.facts
    silent = [name for name in inventory.names if name not in facts]
    if silent:
        raise NoAnswerError(
            f"{fold(silent)} gave no answer, and may have the least memory",
            hint=f"clusterctl doctor; or leave out with --exclude '{'@'.join(silent)}'",
        )
    notes: list[str] = []
    mute = [name for name, each in facts.items() if _mute(each)]
    if mute:
        count, gpus = len(inventory.hosts), max(len(host.slots) for host in inventory.hosts)
        raise UsageError(
            f"{fold(mute)}: how much memory its GPUs have is not known",
            hint=f"say it: --hosts {count} --gpus {gpus} --gpu-memory 24GB; or clusterctl doctor",
        )
    cards = {host.name: _cards(facts[host.name], len(host.slots)) for host in inventory.hosts}
    fewer = [name for name, found in cards.items() if not found]
    if any(facts[name].nvidia.gpus for name in cards) and fewer:
        raise UsageError(
            f"{fold(fewer)} tells of fewer GPUs than it has slots",
            hint="correct the hostfile, or --exclude it",
        )
    sizes = [size for found in cards.values() for size in found]
    device = min(sizes, default=None)
    if device is not None:
        notes += _of_cards(cards, device)
    memory = {name: _free(each) for name, each in facts.items() if _free(each)}
    host = min(memory.values(), default=None)
    if host is not None:
        least = [name for name, size in memory.items() if size == host]
        notes.append(f"host memory: {host / 1e9:.1f} GB are free on {fold(least)}, the least")
    if bandwidth is None and len(inventory.hosts) > 1:
        bandwidth, said = _bandwidth(seen)
        notes.append(said)
    ranks = tuple(len(each.slots) for each in inventory.hosts)
    library: Library = "nccl" if device is not None else "gloo"
    world = World(ranks=ranks, device=device, host=host, bandwidth=bandwidth, library=library)
    return Machines(world=world, notes=tuple(notes))


def _mute(facts: Facts) -> bool:
    """There are GPUs, and not all of them tell their memory: nvidia-smi fails, they share the host's, or they
    are AMD's."""
    if not facts.nvidia.gpus:
        return bool(facts.nvidia.devices or facts.nvidia.amd)
    return not all(gpu.memory_total for gpu in facts.nvidia.gpus)


def _cards(facts: Facts, slots: int) -> list[int]:
    sizes = [gpu.memory_total for gpu in facts.nvidia.gpus]
    return sizes[:slots] if len(sizes) >= slots else []


def _of_cards(cards: Mapping[str, list[int]], least: int) -> list[str]:
    smallest = [name for name, sizes in cards.items() if least in sizes]
    notes = [f"GPUs: {least / 1e9:.1f} GB on {fold(smallest)}"]
    idle = sum(size - least for sizes in cards.values() for size in sizes)
    if idle:
        notes[0] += ", the smallest, bound all"
        notes.append(f"idle: {idle / 1e9:.1f} GB of larger GPUs can hold nothing, for all ranks hold as much")
    return notes


def _free(facts: Facts) -> int:
    limit = facts.cgroup.memory
    return min(facts.memory_available, limit) if limit is not None else facts.memory_available


def _bandwidth(seen: Examination) -> tuple[float | None, str]:
    proof = seen.answers.proof.bandwidth
    found = capacities(proof.transfers) if proof is not None else ()
    if found:
        slowest = min(found, key=lambda each: each.rate)
        return (
            slowest.rate / 8,
            f"network: {slowest.rate / 8e9:.2f} GB/s measured, {slowest.host} carries the least",
        )
    speeds: dict[str, int] = {}
    for name, own in seen.answers.facts.items():
        chosen = seen.network.of(name)
        for interface in own.interfaces:
            if chosen is not None and interface.name == chosen.ifname and interface.speed:
                speeds[name] = interface.speed
    if len(speeds) < len(seen.answers.facts):
        return None, "network: not every interface tells its speed; give --bandwidth, or --measure it"
    slowest_host = min(speeds, key=lambda name: speeds[name])
    rate = speeds[slowest_host] * 1e6 / 8
    return rate, f"network: {rate / 1e9:.2f} GB/s as {slowest_host}'s interface says; --measure tries it"
