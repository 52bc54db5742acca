"""From a LaunchPlan and a node to the command line of torchrun or deepspeed. Pure."""
