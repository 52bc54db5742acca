"""What is so on this host: system, GPUs, Python, network, torch."""
