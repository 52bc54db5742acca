"""What a shell is told when somebody presses TAB: quickly, without any host, and never with an error."""

ASKED = "_CLUSTERCTL_COMPLETE"
"""The variable by which a shell asks what may stand at its cursor; holds the name of the shell."""
