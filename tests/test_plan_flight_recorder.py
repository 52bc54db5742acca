"""Where torch's flight recorder is told to write, and when it is left alone."""

from __future__ import annotations

import msgspec

from clusterctl.facts.model import Facts, Variable
from clusterctl.network.model import Setting
from clusterctl.plan.flight_recorder import settings
from tests.builders import altered, cluster


def with_torch(facts: Facts, version: str) -> Facts:
    packages = facts.python.packages | {"torch": version}
    return msgspec.structs.replace(facts, python=msgspec.structs.replace(facts.python, packages=packages))


def names(torch: str, *own: Setting) -> set[str]:
    facts = {"h": with_torch(cluster(1)["node1"], torch)}
    return {each.name for each in settings(facts, {"h": own})["h"]}


def test_torch_is_told_under_the_names_it_knows() -> None:
    assert names("2.13.0+cpu") == {
        "TORCH_FR_DUMP_TEMP_FILE",
        "TORCH_FR_BUFFER_SIZE",
        "TORCH_NCCL_DUMP_ON_TIMEOUT",
    }
    assert {"TORCH_NCCL_DEBUG_INFO_TEMP_FILE", "TORCH_NCCL_TRACE_BUFFER_SIZE"} < names("2.4.1")
    assert names("2.4.1") == names("") == names("no version")


def test_what_the_user_has_set_stays_alone_under_either_name() -> None:
    assert "TORCH_FR_DUMP_TEMP_FILE" not in names(
        "2.13.0", Setting("TORCH_NCCL_DEBUG_INFO_TEMP_FILE", "/scratch/t", "--env")
    )
    assert "TORCH_NCCL_TRACE_BUFFER_SIZE" not in names("2.4.1", Setting("TORCH_FR_BUFFER_SIZE", "0", "--env"))


def test_what_a_host_s_sessions_have_set_stays_there() -> None:
    facts = cluster(2)
    variable = Variable("TORCH_NCCL_DUMP_ON_TIMEOUT", "0", "environment")
    facts = altered(facts, "node1", variables=(variable,))
    found = settings(facts, {})
    assert "TORCH_NCCL_DUMP_ON_TIMEOUT" not in {each.name for each in found["node1"]}
    assert "TORCH_NCCL_DUMP_ON_TIMEOUT" in {each.name for each in found["node2"]}
