"""Disks, files, checkpoints, caches, downloads."""

from __future__ import annotations

from clusterctl.advise.signature import Signature

_FREE = "clusterctl exec -i {host} -- df -h; old runs there: clusterctl clean --older-than 7d"
_TRITON = r"\.triton|/triton/|torchinductor|torch_extensions|torchelastic_cache|inductor"
_LOCAL = (
    "a cache on the host's own disk: --env TRITON_CACHE_DIR=/tmp/triton "
    "--env TORCHINDUCTOR_CACHE_DIR=/tmp/inductor"
)

FILES = (
    Signature(
        code="disk.full",
        source="end",
        sign=("no space left on ",),
        pattern=r"no space left on (?P<mount>\S+) \(for (?P<path>.*)\)",
        means="the file system {mount} of {host} is full (for {path})",
        hint="clusterctl exec -i {host} -- df -h {mount}; old runs: clusterctl clean --older-than 7d",
    ),
    Signature(
        code="disk.quota",
        source="end",
        sign=("the disk quota is used up on ",),
        pattern=r"used up on (?P<mount>\S+) \(for (?P<path>.*)\)",
        means="your disk quota on {mount} of {host} is used up (for {path})",
        hint="clusterctl exec -i {host} -- quota -s; old runs: clusterctl clean --older-than 7d",
    ),
    Signature(
        code="cache.race",
        sign=(
            "Stale file handle",
            "No such file or directory",
            "Device or resource busy",
            "cannot stat shared object",
            "cannot open shared object file",
            "JSONDecodeError",
        ),
        pattern=r"(?P<file>/\S*(?:\.triton|triton|inductor|torch_extensions)/\S*?)['\"]?(?:[: ]|$)",
        near=_TRITON,
        means="ranks of several hosts compile into one shared cache ({file}), and took files away from "
        "one another",
        hint=_LOCAL,
    ),
    Signature(
        code="disk.stale",
        sign=("Stale file handle", "Errno 116"),
        detail=r"'(?P<path>/[^']+)'",
        means="the file server no longer knows a file that is in use[: {path}]: it was removed or "
        "replaced on "
        "another host",
        hint="caches onto the host's own disk; data that a run reads must not be replaced while it runs",
    ),
    Signature(
        code="disk.unmounted",
        sign=("Errno 107", "Transport endpoint is not connected"),
        pattern=r"(?i)transport endpoint is not connected",
        detail=r"'(?P<path>/[^']+)'",
        near=r"OSError|File \"|: '/|cannot access",
        means="the process behind a mounted file system of {host} has ended[ (for {path})]: sshfs, s3fs, "
        "gcsfuse and their kin",
        hint="on {host}: fusermount -u that mount point, mount it again; its log says why it ended",
    ),
    Signature(
        code="disk.full",
        sign=("No space left on device", "ENOSPC", "Errno 28"),
        detail=r"'(?P<path>/[^']+)'",
        means="a file system of {host} is full[ (for {path})]",
        hint=_FREE,
    ),
    Signature(
        code="disk.full",
        sign=("inline_container.cc",),
        pattern=r"enforce fail at inline_container\.cc.*unexpected pos \d+ vs \d+",
        means="torch.save could not write all of its file: as a rule the file system is full, or a quota "
        "is used up",
        hint=_FREE,
    ),
    Signature(
        code="disk.quota",
        sign=("Disk quota exceeded", "Errno 122"),
        detail=r"'(?P<path>/[^']+)'",
        means="your disk quota on {host} is used up[ (for {path})]",
        hint="clusterctl exec -i {host} -- quota -s; old runs: clusterctl clean --older-than 7d",
    ),
    Signature(
        code="disk.read-only",
        sign=("Read-only file system", "Errno 30"),
        detail=r"'(?P<path>/[^']+)'",
        means="a file system of {host} cannot be written[ (for {path})]: mounted read-only, or made so "
        "after an error",
        hint="what its kernel says: clusterctl exec -i {host} --shell 'dmesg | tail'; clusterctl doctor "
        "-i {host} --only os",
    ),
    Signature(
        code="disk.io",
        sign=("Input/output error", "Errno 5]"),
        detail=r"'(?P<path>/[^']+)'",
        means="a disk or a file server of {host} failed[ (for {path})]",
        hint="what its kernel says: clusterctl exec -i {host} --shell 'dmesg | tail'",
    ),
    Signature(
        code="files.too-many-open",
        sign=("Too many open files", "received 0 items of ancdata", "Errno 24"),
        means="this process may not have more files open on {host}",
        hint="clusterctl exec -i {host} --shell 'ulimit -n'; more: nofile in /etc/security/limits.conf "
        "there; data loaders: "
        "torch.multiprocessing.set_sharing_strategy('file_system')",
    ),
    Signature(
        code="files.permission",
        sign=("Permission denied", "PermissionError"),
        pattern=r"^(?=.*(?:Permission denied(?! \()|PermissionError))"  # ssh: Permission denied (publickey).
        r"(?:.*?'(?P<path>[^']+)'|.*?(?P<path2>/\S+): Permission denied)",
        means="your user may not use {path} on {host}",
        hint="clusterctl exec -i {host} -- ls -ld {path}",
    ),
    Signature(
        code="files.permission",
        sign=("Permission denied", "PermissionError"),
        pattern=r"Permission denied(?! \()|PermissionError",
        means="your user may not use a file or directory on {host}, and what refused it does not say which",
        hint="the line of the script in the traceback knows; then: clusterctl exec -i {host} -- ls -ld PLACE",
    ),
    Signature(
        code="hub.offline",
        sign=(
            "offline mode is enabled",
            "LocalEntryNotFoundError",
            "OfflineModeIsEnabled",
            "We couldn't connect to 'https://huggingface.co'",
            "outgoing traffic has been disabled",
            "Couldn't reach 'https://huggingface.co",
            "Couldn't reach the Hugging Face Hub",
        ),
        means="{host} cannot fetch a model or data set from the hub, and it is not in the cache there",
        hint="fetch it where the network is and bring it to the same path on every host; then --env "
        "HF_HUB_OFFLINE=1 spares "
        "each rank the wait; clusterctl doctor --only sw.hub",
    ),
    Signature(
        code="hub.offline",
        sign=(
            "Max retries exceeded",
            "MaxRetryError",
            "httpx.ConnectError",
            "httpcore.ConnectError",
            "RemoteDisconnected",
        ),
        detail=r"host='(?P<name>[^']+)'",
        means="{host} cannot reach a server[ ({name})] that the script asks",
        hint="[clusterctl exec -i {host} -- curl -sI https://{name}; ]a proxy must be set for ssh sessions, "
        "too",
    ),
    Signature(
        code="hub.denied",
        sign=("401 Client Error", "403 Client Error", "GatedRepoError", "RepositoryNotFoundError"),
        detail=r"url: (?P<url>\S+)",
        means="the hub refuses this user[ ({url})]: a token is missing, or wrong, or the model is gated",
        hint="--env HF_TOKEN hands your own on to all hosts without showing it",
    ),
    Signature(
        code="hub.no-key",
        sign=("api_key not configured", "API key not configured", "wandb login"),
        pattern=r"(?i)(?:api_key not configured|no API key|run .?wandb login)",
        means="wandb wants a key, and {host} has none: there is nobody to type one",
        hint="--env WANDB_API_KEY hands your own on without showing it; --env WANDB_MODE=offline keeps the "
        "record on the host",
    ),
    Signature(
        code="files.tokenizer",
        sign=(
            "Can't load tokenizer for",
            "is not a local folder and is not a valid model identifier",
            "Repo id must be in the form",
            "Can't load the configuration of",
            "does not appear to have a file named",
        ),
        detail=r"(?:for|id|of|model identifier:?|form.*?:) ?'(?P<path>[^']+)'|^\S*: ?(?P<path2>/\S+)"
        r"|^\S*: ?(?P<path3>\S+) is not a local folder",
        means="the model or tokenizer[ {path}] is not there on {host}, so the script takes it "
        "for a name on the hub",
        hint="which hosts have it: clusterctl exec -- ls -d[ {path}]",
    ),
    Signature(
        code="checkpoint.corrupt",
        sign=(
            "PytorchStreamReader failed",
            "failed finding central directory",
            "invalid header or archive is corrupted",
            "SafetensorError: Error while deserializing",
            "File is not a zip file",
            "Ran out of input",
            "unexpected EOF, expected",
            "pickle data was truncated",
            "file in archive is not in a subdirectory",
        ),
        pattern=r"(?P<what>central directory|deserializing header: [^\n]{0,60}|truncated|not a zip"
        r"|Ran out of input|unexpected EOF|.)",
        means="a checkpoint is not whole: it was being written when a run ended, was copied in part, or "
        "is a pointer file of git-lfs",
        hint="the traceback names the file: compare on the hosts with clusterctl exec -- sha256sum FILE; "
        "resume from the one before it",
    ),
    Signature(
        code="checkpoint.empty",
        sign=("EOFError",),
        pattern=r"EOFError\s*$|EOFError: $",
        near=r"torch/serialization|pickle|_load",
        means="a checkpoint is empty or ends too early: it was being written when a run ended",
        hint="the traceback names who reads it; resume from the one before it",
    ),
    Signature(
        code="checkpoint.weights-only",
        sign=("Weights only load failed", "WeightsUnpickler error"),
        detail=r"GLOBAL (?P<what>[\w.]+) was not an allowed",
        means="torch.load takes plain weights only since 2.6, and the checkpoint holds more[ ({what})]",
        hint="only for a file of your own: torch.load(..., weights_only=False)",
    ),
    Signature(
        code="checkpoint.world-size",
        sign=("DP world size of", "ZeRORuntimeException"),
        pattern=r"DP world size of (?P<then>\d+) but the current world size is (?P<now>\d+)",
        means="the checkpoint was written by {then} ranks and is read by {now}",
        hint="start on {then} ranks, or convert it: ds_to_universal.py, then load_universal_checkpoint",
    ),
    Signature(
        code="checkpoint.shape",
        sign=("size mismatch for",),
        pattern=r"size mismatch for (?P<name>[\w.]+): .*?torch\.Size\((?P<then>[^)]*)\).*?torch\.Size\("
        r"(?P<now>[^)]*)\)",
        means="the checkpoint is of another model: {name} is {then} there and {now} here",
        hint="the same model options as when it was written",
    ),
    Signature(
        code="checkpoint.keys",
        sign=("Error(s) in loading state_dict for", "Missing key(s) in state_dict"),
        detail=r"loading state_dict for (?P<name>\w+)",
        means="the checkpoint has other names than the model[ {name}]: of another model, or saved with a "
        "wrapper "
        "(`module.`, `_orig_mod.`)",
        hint="load before wrapping, or strip the prefix",
    ),
    Signature(
        code="files.missing",
        sign=("FileNotFoundError", "No such file or directory", "can't open file"),
        pattern=r"(?:can't open file '(?P<path3>[^']+)'"
        r"|No such file or directory:? ['\"]?(?P<path>[^'\"\s]+)|(?:^|\s)(?P<path2>/\S+): No such file)",
        means="{path} is not there on {host}",
        hint="which hosts have it: clusterctl exec -- ls -ld {path}",
    ),
)
