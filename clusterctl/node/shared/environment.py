"""The variables with which a run's processes start on this host."""

import os


def environment(python, env, removed, environ):
    """The SSH session's own variables without ``removed``, the interpreter's directory first in PATH, then
    the plan's ``env``."""
    found = {name: value for name, value in environ.items() if not name.startswith("SSH_")}
    for name in removed:
        found.pop(name, None)
    found.update(env)
    if "PATH" not in env:
        found["PATH"] = os.path.dirname(python) + os.pathsep + found.get("PATH", os.defpath)
    return found
