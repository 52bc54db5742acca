"""Which interface and address each host gets, and the variables that say so. Pure."""
