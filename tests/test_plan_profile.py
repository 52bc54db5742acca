"""Profiles: what they say for each host, and errors that name file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterctl.errors import UsageError
from clusterctl.plan.profile import decode
from tests.builders import healthy, nic

ENVS = Path(__file__).parent.parent / "envs"


def test_a_host_has_what_is_said_for_all_and_what_is_its_own() -> None:
    profile = decode(
        """
python: /opt/venv/bin/python
env: {NCCL_DEBUG: WARN, HF_HUB_OFFLINE: 1}
hosts:
  odd:
    python: ~/venv/bin/python
    env: {NCCL_DEBUG: INFO}
    activate: module load cuda/12.4
    workdir: ~/project
activate: conda activate train
""",
        "envs/lab.yaml",
    )
    assert (profile.python_of("node1"), profile.python_of("odd")) == (
        "/opt/venv/bin/python",
        "~/venv/bin/python",
    )
    assert profile.env_of("node1") == {"NCCL_DEBUG": "WARN", "HF_HUB_OFFLINE": "1"}
    assert profile.env_of("odd") == {"NCCL_DEBUG": "INFO", "HF_HUB_OFFLINE": "1"}
    lines = [profile.activate_of(host) for host in ("node1", "odd")]
    assert lines == ["conda activate train", "module load cuda/12.4"]
    assert (profile.workdir_of("node1"), profile.workdir_of("odd")) == ("", "~/project")


def test_python_may_be_given_for_each_host() -> None:
    profile = decode("python: {node1: /a/python, node2: /b/python}", "p.yaml")
    assert [profile.python_of(host) for host in ("node1", "node2", "node3")] == ["/a/python", "/b/python", ""]


def test_versions_stay_texts() -> None:
    assert decode("expect: {python: 3.10, cuda: 12}", "p.yaml").expect == {"python": "3.10", "cuda": "12"}
    assert decode('expect: {torch: ">=2.4,<3"}', "p.yaml").expect == {"torch": ">=2.4,<3"}


def test_an_empty_file_is_a_profile_that_wants_nothing() -> None:
    assert decode("# nothing\n", "p.yaml").expect == {}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("description: x\nexpct:\n  torch: 1\n", "p.yaml line 2, expct: unknown key", "`expect`"),
        ("expect:\n  python: 3.11\n  torhc: 2\n", "p.yaml line 3, expect.torhc: unknown key", "`torch`"),
        ("hosts:\n  n1: {}\n  n2:\n    pyton: /a\n", "p.yaml line 4, hosts.n2.pyton", "`python`"),
        (
            "expect:\n  torch: =>2.4\n",
            "p.yaml line 2, expect.torch: invalid version range '=>2.4'",
            '">=2.4,<3"',
        ),
        ("expect: {torch: latest}\n", "p.yaml line 1, expect.torch: invalid version 'latest'", ">=2.4,<3"),
        ("env:\n  A: [1, 2]\n", "p.yaml line 2, env.A: must be a single value, not a list", "`A: text`"),
        (
            "python: [x]\n",
            "p.yaml line 1, python: must be an absolute path, or `key: value` lines",
            "/opt/venv",
        ),
        ("python: {n1: [x]}\n", "p.yaml line 1, python.n1: must be a single value", ""),
        ("python:\n", "p.yaml line 1, python: '' is not an absolute path", "on the nodes"),
        ('hosts: {n1: {python: ""}}\n', "p.yaml line 1, hosts.n1.python: '' is not", "on the nodes"),
        ("expect: 3.11\n", "p.yaml line 1, expect: must be `key: value` lines, not '3.11'", ""),
        ("hosts:\n  n1: /usr/bin/python\n", "p.yaml line 2, hosts.n1: must be `key: value` lines", ""),
        ("python: venv/bin/python\n", "'venv/bin/python' is not an absolute path", "on the nodes"),
        ("hosts: {n1: {workdir: run}}\n", "line 1, hosts.n1.workdir: 'run' is not an absolute", "/data"),
        ("hosts: {n1: {python: python3}}\n", "hosts.n1.python: 'python3' is not an absolute", ""),
        ("env:\n  PYTHONPATH: /x\n", "p.yaml line 2, env.PYTHONPATH: `PYTHONPATH` does not travel", ""),
        ("network: {subnet: 10.0.5.1/24}\n", "line 1, network.subnet: 10.0.5.1/24 has host bits", "10.0.5.0"),
        ("env:\n  A: 1\n  B: 2\n  A: 3\n", "p.yaml line 4: `A` is given twice, first in line 2", "one of"),
        ("env:\n\tA: 1\n", "p.yaml line 2: found character '\\t'", "spaces"),
        ("a: &x [*x]\n", "p.yaml: an alias contains itself", ""),
        ("- a\n", "p.yaml: it must consist of `key: value` lines", ""),
        ('expect: {torch: ">=3,<2"}\n', "expect.torch: no version is in the range '>=3,<2'", ""),
        ("expect: {torch: 2.4 or newer}\n", "expect.torch: invalid version '2.4 or newer'", ">=2.4,<3"),
        ("expect: {torch: 2.4foo}\n", "expect.torch: invalid version '2.4foo'", ""),
        ('python: "/a\\0b"\n', "p.yaml line 1, python: a NUL is in it", ""),
        ('\npython: "/a\x01b"\n', "p.yaml line 2: a control character, U+0001", "UTF-8"),
        ("network: {ifname: eth0, subnet: 10.0.0.0/24}\n", "ifname and subnet both pin", "keep one"),
        ("network: {ifname: eth0 eth1}\n", "network.ifname: 'eth0 eth1' cannot be the name", "eno1"),
        ("hosts: {a: {ifname: abcdefghijklmnop}}\n", "hosts.a.ifname: 'abcdefghijklmnop'", "15"),
        ("hosts: {a: /x}\n", "hosts.a: must be `key: value` lines", "`a: {python: /opt/venv/bin/python}`"),
    ],
)
def test_errors_name_the_place_and_the_cure(text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as error:
        decode(text, "p.yaml")
    assert message in error.value.message
    assert hint in error.value.hint


def test_a_subnet_pins_the_interface_that_each_host_has_there() -> None:
    fast = {
        1: (nic("eth0", "10.0.0.2"), nic("eno1", "10.9.0.1")),
        2: (nic("enp5s0", "10.9.0.2"), nic("eth0", "10.0.0.3")),
        3: (nic("eth0", "10.0.0.4"),),
    }
    facts = {f"node{n}": healthy(n, interfaces=links) for n, links in fast.items()}
    profile = decode("network: {subnet: 10.9.0.0/24}\nhosts: {node2: {ifname: eth0}}", "p.yaml")
    assert profile.pins(facts) == {"node1": "eno1", "node2": "eth0", "node3": "10.9.0.0/24"}
    assert decode("", "p.yaml").pins(facts) == {}


@pytest.mark.parametrize("path", sorted(ENVS.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_profiles_are_valid_with_every_example_switched_on(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    decode(text, path.name)
    shown = "\n".join(
        line.removeprefix("# ") if line.lstrip("# ").partition(":")[0].isidentifier() else line
        for line in text.splitlines()
    )
    assert "# env:" in text and decode(shown, path.name).env
