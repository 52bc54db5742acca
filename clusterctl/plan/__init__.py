"""What would run where, with which variables and why: the LaunchPlan. Pure."""
