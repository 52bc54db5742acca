"""Reports of dcgmi diag, in the shapes of its versions 3 and 4."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clusterctl.facts.dcgm import Dcgm, Diagnosis, parse


def report(key: str, *results: dict[str, Any], test: str = "PCIe") -> str:
    tests = [{"name": test, "results": list(results)}]
    return json.dumps({key: {"test_categories": [{"category": "Integration", "tests": tests}]}})


def test_all_that_passed_or_was_skipped_is_well() -> None:
    text = report(
        "DCGM Diagnostic", {"status": "Pass", "entity_group": "GPU", "entity_id": 0}, {"status": "Skip"}
    )
    assert parse(text) == Dcgm(present=True, tests=2)


def test_version_4_names_the_gpu_and_its_warnings() -> None:
    warning = {"warning": "GPU 3 had uncorrectable memory errors", "error_id": 5, "error_severity": 2}
    result = {"status": "Fail", "entity_group": "GPU", "entity_id": 3, "warnings": [warning]}
    (found,) = parse(report("DCGM Diagnostic", result, test="memory")).failed
    assert found == Diagnosis(test="memory", gpu=3, text="GPU 3 had uncorrectable memory errors")


def test_a_setting_is_told_from_a_fault() -> None:
    warning = {"warning": "Persistence Mode: disabled", "error_category": 8, "error_severity": 5}
    result = {"status": "Fail", "entity_group": "GPU", "entity_id": 0, "warnings": [warning]}
    (found,) = parse(report("DCGM Diagnostic", result, test="software")).failed
    assert found.configuration


@pytest.mark.parametrize("warnings", ["No PCIe bandwidth", ["No PCIe bandwidth"]])
def test_version_3_names_several_gpus_at_once(warnings: object) -> None:
    result = {"status": "FAIL", "gpu_ids": "0,1", "warnings": warnings}
    found = parse("Successfully ran diagnostic\n" + report("DCGM GPU Diagnostic", result)).failed
    assert [(each.gpu, each.text) for each in found] == [(0, "No PCIe bandwidth"), (1, "No PCIe bandwidth")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Error: unable to establish a connection to the specified host: localhost",
        "{",
        "[1, 2]",
        '{"DCGM Diagnostic": 3}',
        json.dumps({"DCGM Diagnostic": {"runtime_error": "The NVVS binary was not found"}}),
    ],
)
def test_what_is_no_report_says_so_and_fails_nobody(text: str) -> None:
    found = parse(text)
    assert found.present
    assert found.error
    assert found.failed == ()


@pytest.mark.parametrize("inside", [None, 3, "x", [None, 3], [{"tests": "x"}], [{"tests": [{"results": 1}]}]])
def test_odd_shapes_are_passed_over(inside: object) -> None:
    assert parse(json.dumps({"DCGM Diagnostic": {"test_categories": inside}})).failed == ()
