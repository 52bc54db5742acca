"""Doctor as a gate in CI: one line for each problem, and an exit code that a pipeline understands.

    python examples/doctor_in_ci.py [HOSTFILE]

0: ready. 1: something fails. 2: something could not be asked. Warnings are printed and let through.
"""

from __future__ import annotations

import sys

from clusterctl import Cluster, ClusterctlError


def main(words: list[str]) -> int:
    try:
        cluster = Cluster.from_hostfile(*words)
        report = cluster.doctor(quick=True)
    except ClusterctlError as error:  # no hostfile, a profile with a mistake
        print(error, file=sys.stderr)
        return error.exit_code
    for finding in report.findings:
        if finding.severity == "info":
            continue
        print(f"{finding.severity}: {','.join(finding.hosts)}: {finding.code}: {finding.observed}")
        if finding.fix:
            print(f"    {finding.fix}")
    print(f"{len(report.ready)} of {len(report.hosts)} hosts ready")
    return report.exit_code()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
