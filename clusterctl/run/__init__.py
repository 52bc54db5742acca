"""The life of a run: the machine decides, the supervisor acts."""
