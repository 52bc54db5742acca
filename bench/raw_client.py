"""What an SSH library alone costs: one small command on all hosts at once, and nothing else.

    python bench/raw_client.py paramiko|asyncssh SSH_CONFIG HOST...

Host keys are checked. Every host has a block of its own in SSH_CONFIG, as the sandbox writes it.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

COMMAND = "hostname"


def with_paramiko(config: Path, hosts: list[str]) -> list[str]:
    import paramiko

    parsed = paramiko.SSHConfig.from_path(str(config))
    blocks = {host: parsed.lookup(host) for host in hosts}
    known = paramiko.HostKeys(blocks[hosts[0]]["userknownhostsfile"].strip('"'))
    key = paramiko.PKey.from_path(blocks[hosts[0]]["identityfile"][0].strip('"'))

    def one(host: str) -> str:
        block = blocks[host]
        client = paramiko.SSHClient()
        client.get_host_keys().update(known)
        client.connect(
            block["hostname"], int(block["port"]), block["user"], pkey=key,
            allow_agent=False, look_for_keys=False, banner_timeout=120, auth_timeout=120,
        )  # fmt: skip
        said = client.exec_command(COMMAND)[1].read().decode()
        client.close()
        return said

    with ThreadPoolExecutor(len(hosts)) as pool:
        return list(pool.map(one, hosts))


def with_asyncssh(config: Path, hosts: list[str]) -> list[str]:
    import asyncssh

    async def one(host: str) -> str:
        options = {"config": [str(config)], "agent_path": None, "login_timeout": 300}
        async with asyncssh.connect(host, **options) as link:
            return str((await link.run(COMMAND)).stdout)

    async def every() -> list[str]:
        return await asyncio.gather(*map(one, hosts))

    return asyncio.run(every())


if __name__ == "__main__":
    library, ssh_config, *names = sys.argv[1:]
    answers = {"paramiko": with_paramiko, "asyncssh": with_asyncssh}[library](Path(ssh_config), names)
    assert len(answers) == len(names) and all(answers), answers
