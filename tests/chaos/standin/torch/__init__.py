"""Stands in for torch where a round is about processes and links: as much of it as a launch looks at."""

from torch import cuda, distributed, version

__all__ = ["cuda", "distributed", "version"]
__version__ = version.__version__
