"""Under which headings `--help` lists the options of verbs that have many, each by its parameter."""

from __future__ import annotations

LAUNCH = {
    "Hosts": ("hostfile", "cluster_name", "include", "exclude", "nodes", "gpus_per_node", "spares"),
    "What runs": (
        *("module", "no_python", "no_local_rank", "engine"),
        *("workdir", "no_sync", "sync_limit", "stdin"),
    ),
    "Before it starts": ("dry_run", "as_json", "force"),
    "While it runs": (
        *("detach", "on_disconnect", "time_limit", "log_limit", "hang_timeout", "on_hang"),
        *("max_restarts", "checkpoint_dir", "resume", "on_end", "track", "notify"),
    ),
    "Environment": ("env", "env_file", "profile", "venv_script", "home_caches", "master_addr", "master_port"),
    "SSH": ("ssh_config", "ssh_port", "transport"),
}

FIT = {
    "What trains": ("params", "sequence", "micro_batch", "gas", "precision", "optimizer"),
    "What saves memory": ("lora", "qlora", "lora_rank", "checkpointing", "eager_attention"),
    "On machines as given": ("gpus", "hosts", "gpu_memory", "host_memory", "bandwidth"),
    "On hosts that are asked": (
        "hostfile",
        "cluster_name",
        "include",
        "exclude",
        "nodes",
        "measure",
        "transport",
        "ssh_config",
    ),
}

COMPARE = {
    "What is compared": ("strategies", "steps", "warmup", "repeats", "time_limit"),
    "What comes out": ("html", "json", "again", "force"),
    "Hosts": ("hostfile", "cluster_name", "include", "exclude", "nodes", "gpus_per_node"),
    "Environment": ("env", "profile", "venv_script", "workdir"),
    "SSH": ("ssh_config", "ssh_port", "transport"),
}
