"""Who may read what over HTTP. Pure."""

from __future__ import annotations

import hmac
import ipaddress
import re
from base64 import b64encode
from hashlib import blake2s, sha256
from typing import Literal
from urllib.parse import quote

import msgspec

from clusterctl.report.html.pages import style

_HOST = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[0-9A-Za-z._-]{1,253})(:[0-9]{1,5})?")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says of itself; empty where it says nothing. ``token`` is the one in its address,
    ``cookie`` the one that was set before."""

    method: str = "GET"
    host: str = ""
    origin: str = ""
    site: str = ""
    """Sec-Fetch-Site: where the page lies from which a browser asks,"""
    mode: str = ""
    destination: str = ""
    token: str = ""
    cookie: str = ""


class Refused(msgspec.Struct, frozen=True):
    status: int
    what: str
    hint: str = ""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """``names``: of this machine, where it is to be reached from others; empty where only from itself."""

    token: str
    names: frozenset[str] = frozenset()

    @property
    def cookie(self) -> str:
        """Its name. Of each server another one: cookies do not know ports, and two servers that are reached
        through ssh -L are one host to a browser."""
        return f"clusterctl_{blake2s(self.token.encode(), digest_size=4).hexdigest()}"

    @property
    def set_cookie(self) -> str:
        return f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict"

    def judge(self, asked: Asked) -> Refused | Literal["enter", "in"]:
        """``enter``: it has brought the token, and is to come again with the cookie instead."""
        if asked.method not in ("GET", "HEAD"):
            return Refused(405, "pages are only to be read")
        if not self._knows(asked.host):
            return Refused(
                421,
                "this server does not go by the name in the address",
                "Open the address that `clusterctl serve` has printed.",
            )
        opened = asked.mode == "navigate" and asked.destination == "document"
        if asked.origin and asked.origin != f"http://{asked.host}":
            return Refused(403, "another page has asked for this one")
        if asked.site not in ("", "none", "same-origin") and not opened:
            return Refused(403, "another page has asked for this one")
        if asked.token:
            return "enter" if self._fits(asked.token) else _NO_TOKEN
        return "in" if self._fits(asked.cookie) else _NO_TOKEN

    def _fits(self, told: str) -> bool:
        return hmac.compare_digest(told.encode(errors="replace"), self.token.encode())

    def _knows(self, host: str) -> bool:
        """A name is no address, and whoever owns it may have it lead here: only names of our own count."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].lower()
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name == "localhost" or name in self.names
        return address.is_loopback or bool(self.names)


_NO_TOKEN = Refused(
    403,
    "this address lacks the token, or it is that of another start",
    "Open the address that `clusterctl serve` has printed. Did a link on another page lead here? Then go on:",
)


def place(path: str) -> str:
    """Where one who has entered goes: the same place on this server, whatever ``path`` is."""
    return "/" + quote(path.lstrip("/\\"))


def headers() -> dict[str, str]:
    """Of every answer."""
    own = b64encode(sha256(style().encode()).digest()).decode()
    policy = (
        "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:; "
        f"style-src 'sha256-{own}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
