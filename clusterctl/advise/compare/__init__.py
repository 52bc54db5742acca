"""Several strategies of one job, measured on the same hosts: how they compare, and which to take."""
