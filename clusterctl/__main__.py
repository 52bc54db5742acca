"""`python -m clusterctl`, where the console script is not in PATH."""

from clusterctl.cli.main import entry

entry()
