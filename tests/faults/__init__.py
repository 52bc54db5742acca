"""The fault matrix: what doctor must name, and what it must leave alone.

Each row is a cluster, what is broken in it, and the codes on the hosts that doctor must give; a healthy row
expects nothing. ``facts_*.py`` alter what hosts would tell (``tests/fact_sets.py`` is their language):
milliseconds each. ``hosts_*.py`` break real hosts, with a real sshd and kernel.
"""
