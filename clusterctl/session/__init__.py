"""What a verb means: resolve hosts, merge settings once, examine, plan, run. Prints nothing."""
