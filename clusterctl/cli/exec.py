"""`clusterctl exec`: one command on all hosts; hosts that answer alike are shown once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clusterctl.cli import options
from clusterctl.errors import UsageError
from clusterctl.settings import EXEC

if TYPE_CHECKING:
    from clusterctl.ask.exec import Answer


def command(
    words: Annotated[
        list[str], typer.Argument(metavar="-- CMD [ARGS]...", help="The command. No shell reads it.")
    ],
    hostfile: options.Hostfile = "",
    cluster_name: options.Cluster = "",
    include: options.Include = "",
    exclude: options.Exclude = "",
    nodes: options.Nodes = None,
    as_script: Annotated[
        bool, typer.Option("--shell", help="CMD is one text for `sh -c` on the hosts: pipes, $VARIABLES.")
    ] = False,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="End the command after this long: 90s, 10m.")
    ] = f"{EXEC.timeout:g}s",
    fold: Annotated[
        bool, typer.Option("--fold/--no-fold", help="--no-fold: every line as it comes, behind its host.")
    ] = True,
    as_json: options.Json = False,
    transport: options.Transport = "fabric",
    ssh_config: options.SshConfig = "",
) -> int:
    """Run one command on all hosts.

    Exit code: the highest of all hosts; 124 for a command that was ended at its timeout (some of it may
    run on, which is said), 255 for a host that could not be asked.
    """
    from clusterctl.cli import screen
    from clusterctl.cli.progress import Asking
    from clusterctl.session.cluster import Cluster

    limit = options.seconds(timeout, "--timeout")
    if not words or not words[0]:
        raise UsageError("no command given", hint="clusterctl exec -- nvidia-smi -L")
    cluster = Cluster.from_hostfile(
        hostfile,
        nodes=nodes,
        include=include,
        exclude=exclude,
        ssh_config=ssh_config,
        transport=transport,
        cluster=cluster_name,
    )
    screen.print_warnings(cluster.warnings)
    if not as_json:
        screen.err().print(cluster.hosts.how, style="dim")
    lines = _Lines(cluster.names) if not fold and not as_json else None
    with Asking(cluster.names, f"running, {limit:g} s at most") as asking:
        answers = cluster.exec(
            ["sh", "-c", " ".join(words)] if as_script else words,
            timeout=limit,
            on_output=lines.feed if lines else None,
            on_answer=asking.answered,
        )
    if as_json:
        _print_json(answers)
        return answers.exit_code
    if lines:
        lines.flush()
    else:
        _print_folded(answers)
    _print_failures(answers, limit)
    return answers.exit_code


class _Lines:
    """Whole lines of all hosts as they come, each behind its host's name."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._width = max(map(len, names))
        self._partial: dict[tuple[str, str], bytes] = {}

    def feed(self, host: str, stream: str, data: bytes) -> None:
        *lines, rest = (self._partial.get((host, stream), b"") + data).split(b"\n")
        self._partial[host, stream] = rest
        for line in lines:
            self._print(host, stream, line)

    def flush(self) -> None:
        for (host, stream), line in self._partial.items():
            if line:
                self._print(host, stream, line)

    def _print(self, host: str, stream: str, line: bytes) -> None:
        from rich.text import Text

        from clusterctl.cli import screen
        from clusterctl.report.harmless import plain_lines

        # What is printed by the console that shows what is waited for stands above that.
        seen = screen.out().is_terminal and screen.err().is_terminal
        console = screen.out() if stream == "out" and not seen else screen.err()
        text = Text.from_ansi(plain_lines(line, colours=True))
        console.print(Text.assemble((f"{host:{self._width}} ", "cyan"), text))


def _print_folded(answers: tuple[Answer, ...]) -> None:
    from rich.rule import Rule
    from rich.text import Text

    from clusterctl.cli import screen
    from clusterctl.report.findings import brief
    from clusterctl.report.harmless import plain_lines

    groups: dict[tuple[bytes, bytes, int], list[Answer]] = {}
    for answer in answers:
        if answer.failure is None:
            groups.setdefault((answer.stdout, answer.stderr, answer.exit_code), []).append(answer)
    for (stdout, stderr, code), alike in groups.items():
        title = Text(brief(answer.host for answer in alike), style="bold")
        if len(alike) > 1:
            title.append(f"  {len(alike)} hosts", style="dim")
        if code:
            title.append(f"  exit {code}", style="bold red")
        screen.out().print(Rule(title, align="left", style="dim"))
        for data, style in ((stdout, ""), (stderr, "yellow")):
            if data:
                text = Text.from_ansi(plain_lines(data, colours=True).rstrip("\n"))
                text.style = style
                screen.out().print(text)


def _print_failures(answers: tuple[Answer, ...], limit: float) -> None:
    from clusterctl.ask.exec import TIMED_OUT
    from clusterctl.cli import screen
    from clusterctl.report.findings import brief

    late: dict[int | None, list[str]] = {}
    for answer in answers:
        if answer.exit_code == TIMED_OUT and answer.failure is None:
            late.setdefault(answer.left, []).append(answer.host)
    for left, hosts in late.items():
        ended = f"{brief(hosts)}: the command was ended after {limit:g} s"
        if left == 0:
            screen.complain("error", f"{ended}; nothing of it runs on", "give it longer with --timeout")
        else:
            screen.complain(
                "error",
                f"{ended}, but {'an unknown number' if left is None else left} of its processes run on: "
                "another user's, or stuck in the kernel",
                f"look for them there: clusterctl exec -i {hosts[0]} -- ps -ef",
            )
    cut = [answer.host for answer in answers if answer.truncated]
    if cut:
        screen.complain(
            "warning", f"{brief(cut)}: only the first {EXEC.max_output // 10**6} MB of output are shown"
        )
    alike: dict[tuple[str, str], list[str]] = {}
    for answer in answers:
        if answer.failure is not None:
            alike.setdefault((answer.failure.message, answer.failure.hint), []).append(answer.host)
    for (message, hint), hosts in alike.items():
        screen.complain("error", f"{brief(hosts)}: {message}", hint)


def _print_json(answers: tuple[Answer, ...]) -> None:
    import json

    hosts = {
        answer.host: {
            "exit_code": answer.exit_code,
            "stdout": answer.stdout.decode("utf-8", "replace"),
            "stderr": answer.stderr.decode("utf-8", "replace"),
            "truncated": answer.truncated,
            "left": answer.left,
            "seconds": round(answer.seconds, 3),
            "failure": answer.failure
            and {
                "stage": answer.failure.stage,
                "message": answer.failure.message,
                "hint": answer.failure.hint,
            },
        }
        for answer in answers
    }
    print(json.dumps({"schema": "clusterctl.exec/1", "hosts": hosts}, indent=2))
