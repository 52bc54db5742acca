"""GPUs, their driver, and what runs on them."""

from __future__ import annotations

from clusterctl.advise.signature import Signature

_REBOOT = "clusterctl doctor -i {host} --only gpu; reset or reboot {host}, and --exclude it meanwhile"
_MATCH = "install the torch that was built for this driver, or a newer driver: clusterctl doctor -i {host}"

GPU = (
    Signature(
        code="gpu.memory",
        sign=("CUDA out of memory", "HIP out of memory"),
        pattern=r"out of memory\.(?: Tried to allocate (?P<asked>[\d.]+ \w+))?"
        r"(?:.*?GPU (?P<gpu>\d+)(?: has a total capacity of|;) (?P<total>[\d.]+ \w+))?"
        r"(?:.*?of which (?P<free>[\d.]+ \w+) is free)?"
        r"(?:.*?Process (?P<pid>\d+) has (?P<other>[\d.]+ \w+) memory in use)?"
        r"(?:.*?this process has (?P<own>[\d.]+ \w+) memory in use)?"
        r"(?:.*?and (?P<split>[1-9][\d.]*) GiB is reserved by PyTorch but unallocated)?",
        means="the GPU's memory is used up[: {asked} asked for][, {free} free of {total}][; this process "
        "holds "
        "{own}][; process {pid} on the same card holds {other}]",
        hint="a smaller micro batch, activation checkpointing or a higher ZeRO stage[; {split} GiB are held "
        "but "
        "split up: --env PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True][; who is process {pid}: "
        "clusterctl "
        "exec -i {host} -- ps -fp {pid}]",
    ),
    Signature(
        code="gpu.memory",
        sign=("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory"),
        means="the GPU has no memory left for a library's work area, or another process holds it",
        hint="who is on the card: clusterctl exec -i {host} -- nvidia-smi; else a smaller micro batch",
    ),
    Signature(
        code="gpu.ecc",
        sign=("uncorrectable ECC error", "uncorrectable NVLink error", "CUDA_ERROR_ECC_UNCORRECTABLE"),
        pattern=r"(?P<what>uncorrectable \w+ error)|ECC_UNCORRECTABLE",
        means="the card reports memory that cannot be trusted[ ({what})]: the hardware, not the script",
        hint=_REBOOT,
    ),
    Signature(
        code="gpu.fell-off",
        sign=(
            "GPU has fallen off the bus",
            "GPU is lost",
            "CUDA error: unspecified launch failure",
            "Unable to determine the device handle for GPU",
        ),
        pattern=r"(?P<what>fallen off the bus|GPU is lost|unspecified launch failure|device handle)",
        means="a GPU does not answer any more ({what})",
        hint="clusterctl doctor -i {host} --only gpu, and ask its kernel: clusterctl exec -i {host} -- "
        "dmesg | "
        "grep Xid; a power cycle brings a lost card back, if anything does",
    ),
    Signature(
        code="gpu.assert",
        sign=("device-side assert triggered",),
        means="a kernel on the GPU found an index or a value out of range: nearly always a label or a "
        "token id "
        "that is larger than its table",
        hint="the line with `Assertion` in {log} names which; the failing line of the script: "
        "--env CUDA_LAUNCH_BLOCKING=1",
    ),
    Signature(
        code="gpu.assert",
        role="confirmation",
        sign=("Assertion `",),
        pattern=r"\.cuh?:\d+: (?:.*?: )?block: .*Assertion `(?P<what>[^`]*)` failed",
        means="on the GPU, `{what}` is not so",
    ),
    Signature(
        code="gpu.illegal-access",
        sign=("an illegal memory access was encountered", "misaligned address", "CUDA_ERROR_ILLEGAL_ADDRESS"),
        means="a kernel on the GPU read or wrote memory that is not its own: a fault in a kernel (a "
        "custom op, a "
        "version of flash-attention) more often than in the card",
        hint="the call that did it: --env CUDA_LAUNCH_BLOCKING=1; on one host only, every time: "
        "clusterctl doctor -i {host} --thorough",
    ),
    Signature(
        code="gpu.ordinal",
        sign=("invalid device ordinal",),
        means="the script chose a GPU that {host} does not have, or that this rank may not see",
        hint="take $LOCAL_RANK, not $RANK, for the device; slots of {host} are {slots}, its cards: "
        "clusterctl exec -i {host} -- nvidia-smi -L",
    ),
    Signature(
        code="gpu.driver-old",
        sign=(
            "NVIDIA driver on your system is too old",
            "CUDA driver version is insufficient for CUDA runtime version",
            "forward compatibility was attempted on non supported HW",
        ),
        detail=r"found version (?P<version>\d+)",
        means="the NVIDIA driver of {host} is older than this torch needs[ (it speaks CUDA {version})]",
        hint=_MATCH,
    ),
    Signature(
        code="gpu.driver-changed",
        sign=("Driver/library version mismatch",),
        means="the driver in the kernel of {host} is not the one that is installed: it was updated "
        "underneath",
        hint="reboot {host}, or reload the module; then hold the package: sudo apt-mark hold 'nvidia-*'",
    ),
    Signature(
        code="gpu.no-kernel",
        sign=("no kernel image is available for execution", "is not compatible with the current PyTorch"),
        means="this torch, or a custom op, was not built for the GPU of {host}",
        hint=_MATCH,
    ),
    Signature(
        code="gpu.nvrtc",
        sign=("nvrtc: error", "failed to open libnvrtc", "ptxas fatal"),
        means="a kernel could not be compiled for this GPU while the script ran: torch or triton is "
        "older than "
        "the card, or the CUDA libraries do not belong together",
        hint="one set of versions on all hosts: clusterctl doctor --only sw",
    ),
    Signature(
        code="gpu.no-cuda-build",
        sign=(
            "Torch not compiled with CUDA enabled",
            "ProcessGroupNCCL is only supported with GPUs",
            "package doesn't have NCCL built in",
        ),
        means="the script wants CUDA, but here is a torch without CUDA, or a host without a GPU",
        hint="which python and torch each host has: clusterctl doctor; on CPUs: backend gloo, device cpu",
    ),
    Signature(
        code="gpu.none",
        sign=(
            "No CUDA GPUs are available",
            "Found no NVIDIA driver on your system",
            "no CUDA-capable device",
        ),
        means="this rank sees no GPU on {host}",
        hint="clusterctl doctor -i {host} --only gpu; a CUDA_VISIBLE_DEVICES of your own hides cards",
    ),
    Signature(
        code="gpu.busy",
        sign=("CUDA-capable device(s) is/are busy or unavailable", "all CUDA-capable devices are busy"),
        means="the GPU is taken: another process has it for itself, or it is not well",
        hint="clusterctl exec -i {host} -- nvidia-smi; compute mode back to shared: nvidia-smi -c 0",
    ),
    Signature(
        code="gpu.fabric",
        sign=("system not yet initialized", "CUDA error 802", "CUDA_ERROR_SYSTEM_NOT_READY"),
        means="the NVSwitch fabric of {host} is not up: its fabric manager does not run, or is of "
        "another version "
        "than the driver",
        hint="clusterctl doctor -i {host} --only gpu.fabric; sudo systemctl restart nvidia-fabricmanager",
    ),
    Signature(
        code="gpu.xid",
        role="confirmation",
        sign=("NVRM: Xid",),
        pattern=r"NVRM: Xid \(PCI:(?P<device>[0-9a-fA-F:.]+)\): (?P<xid>\d+)",
        means="the driver reported Xid {xid} for the card at {device}",
        hint="clusterctl checks gpu.xid says what that code means; clusterctl doctor -i {host} --only "
        "gpu.xid",
    ),
    Signature(
        code="gpu.cuda-error",
        sign=("CUDA error: ", "CUDA driver error: "),
        pattern=r"CUDA (?:driver )?error: (?P<what>[^(\n]{3,120})",
        means="a call into CUDA failed: {what}",
        hint="CUDA reports late, so the line in the traceback may be innocent: --env CUDA_LAUNCH_BLOCKING=1",
    ),
    Signature(
        code="gpu.cudnn",
        sign=("cuDNN error: ", "unable to find an engine to execute this computation"),
        detail=r"(?P<what>CUDNN_STATUS_\w+)",
        means="a call into cuDNN failed[ ({what})]: memory was short when it started, or the libcudnn that "
        "was loaded is not the one this torch was built with",
        hint="clusterctl doctor --only sw,gpu (a second libcudnn in LD_LIBRARY_PATH?); then a smaller micro "
        "batch",
    ),
)
