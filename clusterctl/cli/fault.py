"""An exception that nobody expected, as one line: what it was, and where the details lie."""

from __future__ import annotations

from clusterctl.errors import ClusterctlError

_LONGEST = 200


def explain(error: BaseException, version: str, verb: str) -> ClusterctlError:
    """What to say of ``error``. Itself it fails never: whoever asks has nothing else to say."""
    what = " ".join(str(error).split())
    message = f"{type(error).__name__}: {what}" if what else type(error).__name__
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{error.strerror}: {error.filename}"
    if len(message) > _LONGEST:
        message = message[: _LONGEST - 4] + " ..."
    try:
        from clusterctl.store.fault_report import keep

        hint = f"the details are in {keep(error, version, verb)}"
    except Exception as second:  # noqa: BLE001 (a full disk, no memory: the line above is what can be said)
        hint = f"the details could not be written ({type(second).__name__})"
    if isinstance(error, OSError):
        return ClusterctlError(message, hint=f"{hint}; this machine refused it, not a host")
    return ClusterctlError(f"clusterctl itself failed: {message}", hint=f"{hint}; please report it")
