"""Every family of rules, in the order of judgement. A family's module bears the prefix of its codes."""

from __future__ import annotations

from clusterctl.checks import baseline, e2e, env, gpu, host, hostfile, ib, ip, name, net, os, ssh, sw, time
from clusterctl.checks.rule import Rule

FAMILIES: tuple[tuple[str, tuple[Rule, ...]], ...] = (
    ("Hostfile", hostfile.RULES),
    ("SSH", ssh.RULES),
    ("Session and python", env.RULES),
    ("Machines", host.RULES),
    ("Software", sw.RULES),
    ("GPUs", gpu.RULES),
    ("Limits and disks", os.RULES),
    ("Clocks", time.RULES),
    ("Host names", name.RULES),
    ("Addresses", ip.RULES),
    ("Network", net.RULES),
    ("RDMA", ib.RULES),
    ("End to end", e2e.RULES),
    ("Baseline", baseline.RULES),
)
RULES: tuple[Rule, ...] = tuple(rule for _, rules in FAMILIES for rule in rules)
