"""What people save in place of a config is called what it is."""

from __future__ import annotations

import pytest

from clusterctl.advise.lint.mistaken import advice


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{\n<<<<<<< HEAD\n "a": 4\n=======\n "a": 8\n>>>>>>> b\n}\n', "a merge left its marks"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:abc\n", "git lfs pull"),
        ("<!DOCTYPE html>\n<html>", "a page of the web"),
        ("{“a”: 4", "its quotes are curly"),
        ("{'fp16': {'enabled': True}}", "written in Python"),
        ('{"loss_scale": -Infinity}', "no NaN and no Infinity"),
        ("# mine\ncompute_environment: LOCAL\ndeepspeed_config:\n  - a\n", "looks like YAML"),
        ("---\na: 1\n- b\n", "looks like YAML"),
        ("eyJ0cmFpbl9iYXRjaF9zaXplIjogNH0=\n", "looks like base64"),
    ],
)
def test_it_is_named(text: str, told: str) -> None:
    assert told in advice(text)


@pytest.mark.parametrize("text", ["", "[1]", '{"a": 4', '{"a" 4}', "42", "import torch\n", '{"a": "True"}'])
def test_nothing_is_said_of_what_may_be_anything(text: str) -> None:
    assert advice(text) == ""
