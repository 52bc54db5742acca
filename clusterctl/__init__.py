"""clusterctl: check machines over SSH, train across all of them, say what went wrong."""

__version__ = "0.1.0"
