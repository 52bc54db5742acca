"""NCCL's rule as predicted, against what real libraries took in the same interfaces."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from clusterctl.network.nccl_rule import predict
from tests import nccl_zoos
from tests.builders import DOCKER0, LOOPBACK, nic
from tests.nccl_zoos import VERSIONS, Recorded, recorded

RECORDED = recorded()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("found", RECORDED, ids=lambda found: found.zoo.name)
def test_what_a_real_library_took_is_what_is_predicted(found: Recorded, version: str) -> None:
    pick = found.picks[version]
    predicted = predict(found.interfaces, found.zoo.env, version)
    assert (predicted.address, predicted.unknown) == (pick.address, "")
    assert bool(predicted.address) is not pick.refused
    if pick.address:
        (name,) = {
            link.name for link in found.interfaces for each in link.addresses if each.address == pick.address
        }
        assert predicted.ifname == name


def test_the_recording_has_what_matters() -> None:
    """All versions alike or not, none at all, and every way to choose by oneself."""
    assert len(RECORDED) >= 60
    by_itself = [found for found in RECORDED if "NCCL_SOCKET_IFNAME" not in found.zoo.env]
    taken = {found.picks[VERSIONS[-1]].address for found in by_itself}
    assert {"127.0.0.1", "172.17.0.1", "10.2.0.5", ""} <= taken
    differing = [found for found in RECORDED if len(set(found.picks.values())) > 1]
    assert len(differing) >= 10
    assert [zoo.name for zoo in nccl_zoos.zoos()] == [found.zoo.name for found in RECORDED]


def test_what_depends_on_the_version_is_not_guessed_without_one() -> None:
    dead = nic("eno1", "10.1.0.5", running=False, carrier=False)
    interfaces = (LOOPBACK, dead, nic("eth0", "10.0.0.5", index=3))
    assert predict(interfaces, {}, "2.27.7").ifname == "eno1"
    assert predict(interfaces, {}, "2.28.3").ifname == "eth0"
    for version in ("", "2.28.0", "nonsense"):
        predicted = predict(interfaces, {}, version)
        assert (predicted.ifname, predicted.address) == ("", "")
        assert predicted.unknown == "NCCL's version or the kernel's decides between eno1 and eth0"
    assert predict((LOOPBACK, nic("eth0", "10.0.0.5")), {}, "").ifname == "eth0"


def test_indices_that_kernels_list_otherwise_are_not_guessed() -> None:
    interfaces = (LOOPBACK, nic("eth0", "10.0.0.5", index=200), nic("eth1", "10.1.0.5", index=300))
    assert "decides between eth0 and eth1" in predict(interfaces, {}, "2.27.5").unknown
    later = msgspec.structs.replace(interfaces[2], index=201)
    assert predict((*interfaces[:2], later), {}, "2.27.5").ifname == "eth0"


def test_a_meeting_point_of_the_users_decides() -> None:
    interfaces = (LOOPBACK, DOCKER0, nic("eth0", "10.0.0.5"))
    assert predict(interfaces, {"NCCL_COMM_ID": "10.0.0.5:4000"}, "2.27.5").unknown == "NCCL_COMM_ID decides"


@pytest.mark.long
def test_the_recording_is_still_what_the_libraries_say() -> None:
    """Downloads three wheels, some 900 MB, unless they are there."""
    libraries: dict[str, Path] = {version: nccl_zoos.library(version) for version in VERSIONS}
    for found in RECORDED:
        assert nccl_zoos.look(found.zoo, libraries).picks == found.picks, found.zoo.name
