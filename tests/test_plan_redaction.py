"""Secrets leave a text, and nothing else does."""

from __future__ import annotations

import pytest

from clusterctl.plan.redaction import Redaction


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("http://bob:pw@proxy:3128", "http://(hidden)@proxy:3128"),
        ("http://bob:p@w@proxy:3128/x", "http://(hidden)@proxy:3128/x"),
        ("https://sometoken@github.com/a", "https://(hidden)@github.com/a"),
        ("export HF_TOKEN=abc; conda activate x", "export HF_TOKEN=(hidden); conda activate x"),
        ("DB_PASSWORD='a b' run", "DB_PASSWORD=(hidden) run"),
        ("train.py --hub-token abc --lr 1", "train.py --hub-token (hidden) --lr 1"),
        ("train.py --api_key=abc", "train.py --api_key=(hidden)"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer (hidden)"),
        ("with hf_0123456789abcdefgh there", "with (hidden) there"),
        ("-----BEGIN PRIVATE KEY-----\nabc", "(hidden)"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, without: str) -> None:
    assert Redaction().text(text) == without


@pytest.mark.parametrize(
    "text",
    [
        "http://***@proxy:3128",
        "ssh://alice@gpu2:22",
        "alice@gpu2: Permission denied (publickey,password).",
        "ssh -o StrictHostKeyChecking=ask gpu1 true",
        "train.py --tokenizer gpt2 --keys 3",
        "tokenizers 0.20.3",
        "NCCL_SOCKET_IFNAME=eth0",
        "a8d6afb511a69687bbb2b7e88a3cf67917e1697e",
    ],
)
def test_everything_else_stays(text: str) -> None:
    assert Redaction().text(text) == text


def test_a_value_known_by_its_name_is_hidden_wherever_it_stands() -> None:
    redaction = Redaction(
        [("A_TOKEN", "opensesame"), ("B_TOKEN", "false"), ("C_KEY", "/etc/x.pem")], ["node1"]
    )
    assert redaction.text("say opensesame: false, /etc/x.pem") == "say (hidden): false, /etc/x.pem"
    assert redaction.value("B_TOKEN", "false") == "(hidden)"
    assert redaction.value("B_TOKEN", "") == ""
    assert redaction.everywhere({"opensesame": ["opensesame", 1, None]}) == {
        "opensesame": ["(hidden)", 1, None]
    }
    assert Redaction([("A_KEY", "node1x")], ["node1x"]).text("node1x") == "node1x"


def test_different_values_of_a_variable_stay_different() -> None:
    redaction = Redaction([("A_TOKEN", "one"), ("A_TOKEN", "two"), ("A_TOKEN", "one")])
    assert [redaction.value("A_TOKEN", each) for each in ("one", "two", "one")] == [
        "(hidden)", "(hidden 2)", "(hidden)",
    ]  # fmt: skip
