"""What a verb means: resolve hosts, merge settings once, examine, plan, run, pull, clean. Prints nothing."""
