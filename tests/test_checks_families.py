"""Where a rule is found: in the module that bears the prefix of its code."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

from clusterctl import checks
from clusterctl.checks.families import FAMILIES, RULES

MODULES = {
    info.name: module
    for info in pkgutil.iter_modules(checks.__path__)
    if hasattr(module := importlib.import_module(f"clusterctl.checks.{info.name}"), "RULES")
}
MACHINERY = {"evaluate", "families", "selection"}


@pytest.mark.parametrize("name", sorted(MODULES.keys() - MACHINERY))
def test_a_family_holds_the_codes_of_its_name(name: str) -> None:
    assert {rule.code.partition(".")[0] for rule in MODULES[name].RULES} == {name}


def test_every_family_is_judged_and_no_code_is_given_twice() -> None:
    judged = [rules for _, rules in FAMILIES]
    assert all(MODULES[name].RULES in judged for name in MODULES.keys() - MACHINERY)
    assert len(judged) == len(MODULES.keys() - MACHINERY)
    assert len({rule.code for rule in RULES}) == len(RULES)
