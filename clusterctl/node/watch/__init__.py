"""What becomes bad on a node while a run lives there: disks, memory, the kernel's log, links, GPUs."""
