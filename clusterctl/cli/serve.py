"""`clusterctl serve`: the runs of this machine in a browser, live."""

from __future__ import annotations

from typing import Annotated

import typer

from clusterctl.errors import UsageError


def command(
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="P", min=0, max=65535, help="Where to listen. Default: 8642, or the next free."
        ),
    ] = None,
    bind: Annotated[
        str,
        typer.Option("--bind", metavar="ADDRESS", help="For others to reach it: there is no encryption."),
    ] = "127.0.0.1",
) -> None:
    """Show the runs of this machine in a browser, and keep them up to date, until Ctrl-C.

    It prints an address with a token that only you see: who has it may read all runs, and change nothing. The
    page of a run is the one that `report` writes; what is new comes by itself.
    """
    from importlib.util import find_spec

    if not all(map(find_spec, ("starlette", "uvicorn"))):
        raise UsageError(
            "pages over HTTP need starlette and uvicorn, which are not installed here",
            hint="pip install 'clusterctl[serve]'",
        )
    import secrets

    from clusterctl.cli import screen
    from clusterctl.serve.access import Access
    from clusterctl.serve.listen import listen, serve

    place = listen(bind, port)
    access = Access(token=secrets.token_urlsafe(24), names=place.names())
    try:
        screen.show(_words(place.host, place.port, access.token, own=place.own))
        if not place.own:
            screen.complain(
                "warning",
                f"others reach {place.host}, and nothing that is sent is encrypted, the token neither",
                "leave out --bind and use ssh -L where the network is not yours alone",
            )
        serve(place, access)
    except KeyboardInterrupt:
        return


def _words(host: str, port: int, token: str, *, own: bool) -> str:
    lines = [f"open    http://{host}:{port}/?token={token}"]
    if own:
        lines.append(f"laptop  {_tunnel(host, port)}   then open the same address there")
    return "\n".join([*lines, "        read-only; Ctrl-C ends it"])


def _tunnel(host: str, port: int) -> str:
    import getpass
    import socket

    try:
        user = f"{getpass.getuser()}@"
    except (KeyError, OSError, ImportError):  # a user without a name
        user = ""
    return f"ssh -L {port}:{host}:{port} {user}{socket.gethostname()}"
