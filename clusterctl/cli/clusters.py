"""`clusterctl clusters`: the names that --cluster knows, and what each stands for."""

from __future__ import annotations

from pathlib import Path

import typer

from clusterctl.cli import options


def command(as_json: options.Json = False) -> None:
    """List named clusters: those of ./clusterctl.toml and of ~/.config/clusterctl/config.toml.

    What ./clusterctl.toml says of a name is stronger, key by key; an option is stronger than both.
    """
    from clusterctl.cli import screen
    from clusterctl.session import clusters

    found = clusters.every()
    if as_json:
        import msgspec

        # Values may be secrets; what is needed to type --cluster is not.
        shown = [
            {**msgspec.structs.asdict(each), "env": sorted(each.env), "env_origins": each.env_origins}
            for each in found.values()
        ]
        typer.echo(msgspec.json.encode({"schema": "clusterctl.clusters/1", "clusters": shown}).decode())
        return
    if not found:
        user = clusters.user_file()
        screen.err().print(
            f'no clusters: write [cluster.lab] and hostfile = "FILE" into {user}', markup=False
        )
        return
    for each in found.values():
        rows = [("hostfile", str(screen.at_home(Path(each.hostfile))) if each.hostfile else "-")]
        rows += [(key, value) for key, value in (("profile", each.profile), ("engine", each.engine)) if value]
        rows += [("env", " ".join(each.env))] if each.env else []
        screen.out().print(each.name, style="bold", markup=False, highlight=False)
        for key, value in rows:
            line = f"  {key:8} {value}  ({each.origins.get(key, 'not said')})"
            screen.out().print(line, markup=False, highlight=False, soft_wrap=True)
