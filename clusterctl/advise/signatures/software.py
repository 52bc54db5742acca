"""Python, packages, libraries, the arguments of the script, DeepSpeed's configuration, numbers."""

from __future__ import annotations

from clusterctl.advise.signature import Signature

_SAME = "compare the hosts: clusterctl doctor --only sw,env"

SOFTWARE = (
    Signature(
        code="args.local-rank",
        needs_local_rank=True,
        sign=("local_rank", "local-rank"),
        pattern=r"(?i:unrecognized argument|no such option|unknown|unexpected"
        r"|not used by the HfArgumentParser).*\blocal[-_]rank\b",
        means="the script does not take --local_rank, which the deepspeed engine gives every rank",
        hint="launch it with --no-local-rank; it has $LOCAL_RANK",
    ),
    Signature(
        code="args.wrong",
        sign=(
            "error: unrecognized arguments",
            "error: the following arguments are required",
            "error: argument ",
            "No such option",
            "not used by the HfArgumentParser",
        ),
        pattern=r"error: (?P<what>.*)|(?P<what2>No such option.*)"
        r"|not used by the HfArgumentParser: (?P<what3>.*)",
        means="the script does not take these arguments: {what}",
        hint="options of `launch` come before SCRIPT, its own after",
    ),
    Signature(
        code="sw.no-compiler",
        sign=("InvalidCxxCompiler", "Failed to find C compiler", "No working C++ compiler found"),
        pattern=r"(?P<what>C\+\+|C) compiler",
        means="torch.compile or Triton builds code while the run starts, and {host} has no {what} compiler",
        hint="gcc and g++ on every host (CC and CXX name others), or no compilation: "
        "--env TORCHDYNAMO_DISABLE=1",
    ),
    Signature(
        code="deepspeed.no-compiler",
        sign=(
            "Ninja is required to load C++ extensions",
            "Unable to find a compiler",
            "due to ninja not being installed",
            "Command '['c++'",
            "Command '['g++'",
            "CUDA_HOME environment variable is not set",
            "CUDA_HOME does not exist",
            "MissingCUDAException",
            "nvcc: not found",
            "No such file or directory: '/usr/local/cuda/bin/nvcc'",
            "No such file or directory: 'nvcc'",
            "No such file or directory: 'c++'",
            "No such file or directory: 'g++'",
            "No such file or directory: 'which'",
        ),
        pattern=r"(?P<what>[Nn]inja|CUDA_HOME|nvcc|c\+\+|g\+\+|compiler|MissingCUDA|which)",
        means="DeepSpeed builds an op when it is first used, and {host} lacks what it needs for that "
        "({what})",
        hint='no build at all: "torch_adam": true in the optimizer\'s params; or ninja, g++ and the CUDA '
        "toolkit on every host; "
        "clusterctl doctor --only sw",
    ),
    Signature(
        code="deepspeed.cuda-mismatch",
        sign=(
            "does not match the version torch was compiled with",
            "CUDAMismatchException",
            "The detected CUDA version (",
        ),
        pattern=r"(?:Installed CUDA version "
        r"(?P<installed>[\d.]+) does not match the version torch was compiled with (?P<torch>[\d.]+)"
        r"|detected CUDA version \((?P<installed2>[\d.]+)\).*?\((?P<torch2>[\d.]+)\))",
        means="the CUDA toolkit of {host} is {installed}, torch was built with "
        "{torch}: DeepSpeed builds no op then",
        hint="the toolkit of torch's CUDA version (CUDA_HOME), or --env DS_SKIP_CUDA_CHECK=1 where only "
        "the minor version differs",
    ),
    Signature(
        code="deepspeed.build",
        sign=("Error building extension", "ninja: build stopped", "has no attribute 'ds_opt_adam'"),
        detail=r"building extension '(?P<op>\w+)'",
        means="an op of DeepSpeed[ ({op})] could not be built on {host}",
        hint='the first `error:` above it says why; without it: "torch_adam": true; a half-built one is '
        "in the way: "
        "clusterctl exec -- rm -rf ~/.cache/torch_extensions",
    ),
    Signature(
        code="deepspeed.batch",
        sign=("train_batch_size is not equal to micro_batch_per_gpu",),
        pattern=r"world_size (?P<total>\d+) != (?P<micro>\d+) \* (?P<steps>\d+) \* (?P<world>\d+)",
        means="ds_config: train_batch_size {total} is not {micro} (micro batch) x {steps} (accumulation) "
        "x {world} (ranks)",
        hint="leave train_batch_size out: DeepSpeed multiplies the other two by the ranks there are",
    ),
    Signature(
        code="deepspeed.batch",
        sign=(
            "Either train_batch_size or train_micro_batch_size_per_gpu needs to be provided",
            "has to be greater than 0",
        ),
        pattern=r"(?:Either train_batch_size|(?:[Tt]rain|[Mm]icro|[Gg]radient).*greater than 0)",
        means="ds_config has no batch size that works for {world} ranks",
        hint="give train_micro_batch_size_per_gpu and gradient_accumulation_steps",
    ),
    Signature(
        code="deepspeed.auto",
        sign=(
            "not supported between instances of 'str' and 'int'",
            "can't multiply sequence",
            "'str' and 'float'",
            "'str' and 'int'",
        ),
        near=r"deepspeed/runtime",
        means='ds_config says "auto": only transformers\' Trainer fills that in, DeepSpeed alone cannot',
        hint='write numbers in place of "auto"',
    ),
    Signature(
        code="deepspeed.precision",
        sign=(
            "Type fp16 is not supported",
            "Type bf16 is not supported",
            "fp16 and bf16 modes cannot be simultaneously enabled",
            "bfloat16 and fp16 modes cannot",
        ),
        pattern=r"(?P<what>Type \w+ is not supported|simultaneously|cannot)",
        means="ds_config asks for a precision that this device does not have, or for two at once",
        hint="bf16 on cards from Ampere on, fp16 on older ones, neither on a CPU without it",
    ),
    Signature(
        code="deepspeed.no-launcher",
        sign=("No module named 'mpi4py'",),
        means="deepspeed.init_distributed found no RANK in the environment and looked for MPI",
        hint="the script must start under `clusterctl launch`; does it clear its environment?",
    ),
    Signature(
        code="numbers.loss-scale",
        sign=("loss scale already at minimum",),
        means="fp16 overflowed at every step until the loss scale was at its minimum: the loss is inf or nan",
        hint="bf16 where the cards have it; else a lower learning rate, warm-up, gradient clipping; look "
        "at the data of the first step",
    ),
    Signature(
        code="numbers.nan",
        sign=(
            "returned nan values in its",
            "is non-finite, so it cannot be clipped",
            "loss is nan",
            "Loss is nan",
            "oss is NaN",
            "Minimum loss scale reached",
            "loss is not finite",
            "NaN or Inf found",
        ),
        detail=r"Function '(?P<what>\w+)'",
        means="nan or inf in the loss or in gradients[, first in {what}]",
        hint="a lower learning rate, warm-up, clipping, bf16 in place of fp16; which op: "
        "torch.autograd.set_detect_anomaly(True)",
    ),
    Signature(
        code="sw.glibc",
        sign=("GLIBC_", "GLIBCXX_", "CXXABI_"),
        pattern=r"version [`'](?P<what>(?:GLIBC|GLIBCXX"
        r"|CXXABI)_[\d.]+)' not found \(required by (?P<file>[^)]+)\)",
        means="{file} was built for a newer system: {host} has no {what}",
        hint="a build for the older system on this host, or a libstdc++ of the environment (conda "
        "install libstdcxx-ng)",
    ),
    Signature(
        code="sw.undefined-symbol",
        sign=("undefined symbol",),
        pattern=r"(?P<file>/\S+): undefined symbol: (?P<symbol>\w+)",
        means="{file} does not fit the libraries it is loaded with: built for another torch, CUDA or libnccl",
        hint="build or install it anew for this torch, on every host; " + _SAME,
    ),
    Signature(
        code="sw.library",
        sign=("cannot open shared object file", "cannot enable executable stack"),
        pattern=r"(?P<file>[\w./+-]+\.so[\w.]*): cannot",
        means="the library {file} is not there on {host}",
        hint="a package that is missing there, or LD_LIBRARY_PATH does not reach ssh sessions: "
        "clusterctl doctor --only env",
    ),
    Signature(
        code="sw.module",
        sign=("ModuleNotFoundError", "No module named"),
        pattern=r"No module named '?(?P<module>[\w.]+)'?",
        means="the Python of {host} ({python}) has no module {module}",
        hint="on all hosts: clusterctl exec -- {python} -m pip install NAME; a module of your own must lie "
        "below the working directory; " + _SAME,
    ),
    Signature(
        code="sw.import",
        sign=("ImportError: cannot import name", "AttributeError: module "),
        pattern=r"(?:cannot import name '(?P<name>\w+)' from (?:partially initialized module )?'"
        r"(?P<module>[\w.]+)'"
        r"|module '(?P<module2>[\w.]+)' has no attribute '(?P<name2>\w+)')",
        means="{module} has no {name}: another version than the script "
        "expects, or a file of that name in the way",
        hint=_SAME,
    ),
    Signature(
        code="sw.syntax",
        sign=("SyntaxError: ", "IndentationError: ", "TabError: "),
        pattern=r"(?P<what>\w+Error: .*)",
        means="Python cannot read the file: {what}",
        hint="written for a newer Python? that of {host} is {python}; " + _SAME,
    ),
    Signature(
        code="sw.numpy",
        sign=(
            "numpy.dtype size changed",
            "_ARRAY_API not found",
            "compiled using NumPy 1.x cannot be run in",
        ),
        means="a package on {host} was built for another NumPy",
        hint="pip install 'numpy<2', or a newer build of that package, on every host; " + _SAME,
    ),
    Signature(
        code="python.pickle",
        sign=(
            "Can't pickle",
            "Can't get local object",
            "cannot pickle",
            "AttributeError: Can't get attribute",
        ),
        pattern=r"(?:[Cc]an(?:no|')t (?:pickle|get) (?P<what>.*))",
        means="what goes to a data loader process must be picklable, and this is not: {what}",
        hint="a function of the module in place of a lambda or an inner one; open files and locks inside "
        "the worker",
    ),
    Signature(
        code="python.main-guard",
        sign=("before the current process has finished its bootstrapping phase",),
        means="processes are started while the script is imported",
        hint='put what the script does below `if __name__ == "__main__":`',
    ),
    Signature(
        code="python.no-terminal",
        sign=("EOFError: EOF when reading a line", "bdb.BdbQuit"),
        means="the script waits for somebody who types, and ranks have no terminal",
        hint="remove input(), breakpoint() and pdb.set_trace(); or give rank 0 its input: --stdin",
    ),
    Signature(
        code="env.not-set",
        sign=(
            "environment variable MASTER_ADDR expected",
            "environment variable RANK expected",
            "expected, but not set",
        ),
        pattern=r"environment variable (?P<name>\w+) expected",
        means="torch needs {name}, which `launch` sets for every rank: here it is not set",
        hint="does the script start python anew with a cleared environment (sudo, env -i, ssh)?",
    ),
    Signature(
        code="data.worker",
        role="confirmation",
        sign=("exited unexpectedly", "is killed by signal"),
        pattern=r"DataLoader worker \(pid\(?s?\)? (?P<pid>[\d, ]+)\) (?P<how>exited unexpectedly"
        r"|is killed by signal: [\w ]+|exited .*)",
        means="data loader process {pid} {how}",
        hint="what it said stands above it in {log}; num_workers=0 shows the error in the rank itself",
    ),
    Signature(
        code="script.unused-parameters",
        sign=("Expected to have finished reduction in the prior iteration",),
        means="DDP waits for gradients of parameters that the last step did not use",
        hint="DistributedDataParallel(find_unused_parameters=True), or let every parameter take part in "
        "the loss",
    ),
    Signature(
        code="script.groups-left",
        sign=("terminate called without an active exception",),
        near=r"(?s)\A(?!.*(?:Traceback|Error))",  # a rank that raised something only ends like this, too
        means="its script ended, by itself or by sys.exit, with process groups open, at which torch aborts",
        hint="was it to end there? what it printed last stands in {log}; the last thing that every rank does "
        "is torch.distributed.destroy_process_group()",
    ),
    Signature(
        code="script.thread",
        role="confirmation",
        sign=("Exception in thread ",),
        pattern=r"^Exception in thread (?P<thread>.+):$",
        means="its thread {thread} ended with an exception, which ends no script",
        hint="what waits for that thread waits for ever: queue.get(timeout=...), or a future's result()",
    ),
    Signature(
        code="engine.hangup",
        sign=(
            "got signal: 1",
            "Received 1 death signal",
            "Signals.SIGHUP death signal",
            "closing signal SIGHUP",
        ),
        means="a terminal or an SSH session was closed, and its SIGHUP ended the engine",
        hint="launch again: clusterctl's own ranks have no terminal; was torchrun started inside of the "
        "script, or the agent signalled by hand?",
    ),
    Signature(
        code="engine.signal",
        sign=("death signal, shutting down workers", "SignalException"),
        pattern=r"(?:Received (?P<number>\S+) death signal|got signal: (?P<number2>\d+))",
        means="the engine was sent signal {number}",
        hint="by a scheduler, a reboot or a person: clusterctl exec -i {host} -- last -x | head",
    ),
)
