"""Who may read pages over HTTP, and what stands in the head of every answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from clusterctl.report.html.live import live_page, shown_list
from clusterctl.serve.access import Access, Asked, Refused, headers, place

TOKEN = "tOkEn-of-24-bytes_and-some"
OWN = Access(token=TOKEN)
OPEN = Access(token=TOKEN, names=frozenset({"gpu1", "gpu1.lab.example", "10.0.0.5"}))
ASKED = Asked(host="127.0.0.1:8642", cookie=TOKEN)


def judged(access: Access = OWN, **changes: Any) -> int | str:
    found = access.judge(msgspec.structs.replace(ASKED, **changes))
    return found.status if isinstance(found, Refused) else found


def test_who_brings_the_token_or_its_cookie_comes_in_and_nobody_else() -> None:
    assert judged() == "in"
    assert judged(cookie="", token=TOKEN) == "enter"
    assert judged(cookie="") == 403
    for wrong in ("x", TOKEN[:-1], TOKEN + "x", TOKEN.lower(), "ä\ud800", "\0"):
        assert judged(cookie=wrong) == 403
        assert judged(token=wrong) == 403, "a wrong token is told, cookie or not"


def test_pages_are_read_and_nothing_else() -> None:
    assert judged(method="HEAD") == "in"
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"):
        assert judged(method=method, token=TOKEN) == 405


@pytest.mark.parametrize(
    ("host", "own", "others"),
    [
        ("localhost", "in", "in"),
        ("LOCALHOST:9000", "in", "in"),
        ("127.0.0.1", "in", "in"),
        ("127.1.2.3:80", "in", "in"),
        ("[::1]:8642", "in", "in"),
        ("10.0.0.5:8642", 421, "in"),
        ("[fd00::5]", 421, "in"),
        ("GPU1:8642", 421, "in"),
        ("gpu1.lab.example", 421, "in"),
        ("evil.example", 421, 421),
        ("gpu1.evil.example", 421, 421),
        ("localhost.evil.example:8642", 421, 421),
        ("127.0.0.1.nip.example", 421, 421),
        ("2130706433", 421, 421),
        ("0x7f.1", 421, 421),
        ("127.0.0.1:8642@evil.example", 421, 421),
        ("user@127.0.0.1", 421, 421),
        ("127.0.0.1:", 421, 421),
        ("127.0.0.1:8642:1", 421, 421),
        ("127.0.0.1\n", 421, 421),
        (" 127.0.0.1", 421, 421),
        ("[::1", 421, 421),
        ("", 421, 421),
    ],
)
def test_a_name_that_others_can_make_lead_here_is_none_of_ours(
    host: str, own: int | str, others: int | str
) -> None:
    assert judged(host=host) == own
    assert judged(OPEN, host=host) == others


def test_other_pages_get_nothing() -> None:
    assert judged(origin="http://127.0.0.1:8642") == "in"
    for origin in ("http://127.0.0.1:9000", "https://127.0.0.1:8642", "http://evil.example", "null"):
        assert judged(origin=origin) == 403
        assert judged(origin=origin, cookie="", token=TOKEN) == 403
    for site in ("cross-site", "same-site", "news-to-us"):
        assert judged(site=site, mode="no-cors", destination="script") == 403
        assert judged(site=site, mode="navigate", destination="iframe") == 403
        assert judged(site=site, mode="navigate", destination="document") == "in", "a link leads here"
    assert judged(site="same-origin", mode="cors") == judged(site="none") == "in"


def test_the_cookie_is_another_one_for_each_server_and_hidden_from_scripts() -> None:
    assert OWN.cookie != Access(token="another").cookie
    assert OWN.set_cookie == f"{OWN.cookie}={TOKEN}; Path=/; HttpOnly; SameSite=Strict"


def test_who_has_entered_stays_on_this_server() -> None:
    assert place("/run/20260101-1") == "/run/20260101-1"
    for path in ("//evil.example/x", "/\\evil.example", "\\\\evil.example", "///evil.example", ""):
        assert not place(path)[1:].startswith(("/", "\\"))
    assert "\r" not in place("/a\r\nSet-Cookie: b=c") and "\n" not in place("/a\r\nb")


def test_no_page_may_run_or_load_what_is_not_ours() -> None:
    policy = dict(each.split(" ", 1) for each in headers()["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert not any("unsafe" in each or "http" in each or "*" in each for each in policy.values())
    assert headers()["Cache-Control"] == "no-store" and headers()["Referrer-Policy"] == "no-referrer"
    page = live_page(shown_list([], 0), below=True)
    assert " style=" not in page and page.count("<style>") == 1 and page.count("<script") == 1
