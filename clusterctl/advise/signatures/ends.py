"""How something ended, in clusterctl's own words: where nothing that was printed says more."""

from __future__ import annotations

from clusterctl.advise.signature import Signature

_KERNEL = "what the kernel says there, as root: journalctl -k --since -1h"

ENDS = (
    Signature(
        code="end.lost",
        source="end",
        sign=("lost: ",),
        pattern=r"lost: (?P<why>.*)",
        means="lost: {why}",
        hint="is it back? clusterctl doctor -i {host}; without it: --exclude {host}",
    ),
    Signature(
        code="end.rebooted",
        source="end",
        sign=("the host no longer knows this run",),
        pattern=r"\((?P<why>.*?)\??\)",
        means="the host no longer knows this run[ ({why})]: it was started anew, or its home directory was "
        "cleared",
        hint="since when it is up: clusterctl exec -i {host} -- uptime -s; why, as root there: "
        "journalctl -b -1 -e",
    ),
    Signature(
        code="end.lease",
        source="end",
        sign=("no word from the controller",),
        means="the host heard nothing from this machine for longer than a lease, and ended its ranks itself",
        hint="did this machine sleep, or was the link cut? clusterctl doctor -i {host}",
    ),
    Signature(
        code="end.all-silent",
        source="end",
        sign=("nothing came from any host for",),
        pattern=r"for (?P<seconds>\d+) s",
        means="nothing came from any host for {seconds} s, longer than their leases, and each ended its "
        "ranks; what all of them share failed: this machine's own link, a switch or a power supply",
        hint="this machine's first: ip addr; then clusterctl doctor",
    ),
    Signature(
        code="end.agent",
        source="end",
        sign=(
            "the agent on this host was killed",
            "the agent was ended by SIGTERM",
            "the agent ended before its ranks",
            "the agent broke",
        ),
        means="the process of clusterctl on {host} was ended from outside: a reboot, a clean-up script, "
        "a memory limit of the session",
        hint="since when it is up: clusterctl exec -i {host} -- uptime -s; " + _KERNEL,
    ),
    Signature(
        code="end.engine",
        source="end",
        sign=(
            "the engine was killed by",
            "the engine was sent",
            "the engine ended its ranks, was it sent a signal?",
        ),
        detail=r"(?:killed by|sent) (?P<signal>SIG\w+)",
        means="the engine on {host} was ended from outside[ by {signal}], its ranks with it",
        hint="somebody's kill, a reboot or a memory limit; " + _KERNEL,
    ),
    Signature(
        code="end.killed",
        source="end",
        sign=("killed by SIGKILL",),
        means="killed with SIGKILL from outside, and nothing here says by whom[; it held {peak} at its peak]",
        hint="lack of memory is the usual reason, but a bare kill proves nothing: "
        + _KERNEL
        + " | grep -i -e oom -e kill, on {host}",
    ),
    Signature(
        code="end.bus",
        source="end",
        sign=("killed by SIGBUS",),
        means="a page of memory could not be had on {host}: as a rule /dev/shm is full, or a file that "
        "is mapped became shorter",
        hint="clusterctl exec -i {host} -- df -h /dev/shm; more of it: sudo mount -o remount,size=50% "
        "/dev/shm (in a container: --shm-size)",
    ),
    Signature(
        code="end.segfault",
        source="end",
        sign=("killed by SIGSEGV", "killed by SIGFPE"),
        pattern=r"killed by (?P<signal>\w+)",
        means="native code crashed ({signal}): a compiled op or library, not Python",
        hint="which Python line led there: `import faulthandler; faulthandler.enable()` at the top of the "
        "script",
    ),
    Signature(
        code="end.illegal-instruction",
        source="end",
        sign=("killed by SIGILL",),
        means="a compiled op or library uses instructions that the CPU of {host} does not have",
        hint="build it on {host}, or for the oldest CPU of all hosts; ops that DeepSpeed built elsewhere: "
        "clusterctl exec -- rm -rf ~/.cache/torch_extensions",
    ),
    Signature(
        code="end.abort",
        source="end",
        role="cascade",
        sign=("killed by SIGABRT",),
        means="native code gave up (SIGABRT): NCCL's watchdog ends victims like this, a C++ exception or "
        "a broken heap, too",
        hint="what it said last stands in {log}",
    ),
    Signature(
        code="end.hangup",
        source="end",
        sign=("killed by SIGHUP",),
        means="it was sent SIGHUP: a terminal or an SSH session was closed",
        hint="not by clusterctl, whose ranks have no terminal: does the script start another launcher or "
        "a shell?",
    ),
    Signature(
        code="end.asked",
        source="end",
        sign=("killed by SIGTERM", "killed by SIGINT", "killed by SIGQUIT"),
        pattern=r"killed by (?P<signal>\w+)",
        means="somebody asked it to end ({signal}), and it was not clusterctl: a scheduler, earlyoom, a "
        "reboot, a person",
        hint="clusterctl exec -i {host} -- last -x | head; " + _KERNEL,
    ),
    Signature(
        code="end.child-killed",
        source="end",
        sign=("ended with exit code 137", "ended with exit code 247"),
        means="a process that it had started was killed with SIGKILL, and nothing here says by whom",
        hint="lack of memory is the usual reason, but a bare kill proves nothing: " + _KERNEL + ", on {host}",
    ),
    Signature(
        code="end.not-found",
        source="end",
        sign=("ended with exit code 127", "ended with exit code 126"),
        means="a program that the script starts is not there on {host}, or may not be run",
        hint="the last lines of {log} name it; PATH there: clusterctl exec -i {host} --shell 'echo $PATH'",
    ),
    Signature(
        code="end.pdsh",
        source="end",
        sign=("pdsh could not start the engine there",),
        detail=r"engine there: (?P<what>.+)",
        means="pdsh, which DeepSpeed's launcher uses, could not begin anything on {host}[: {what}]",
        hint="--engine torchrun needs no login but clusterctl's own; try pdsh's: pdsh -R ssh -w {host} true",
    ),
    Signature(
        code="end.deepspeed-launcher",
        source="end",
        sign=("deepspeed's launcher never reached this host",),
        means="DeepSpeed's launcher never reached {host}: pdsh or its ssh failed",
        hint="--engine torchrun needs neither; what pdsh said: clusterctl logs {run} --agent",
    ),
)
