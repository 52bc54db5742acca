"""Pages as people open them: headless Chromium, of Debian's packages chromium and chromium-driver."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.facts.model import Reachability
from clusterctl.report.html.run import overlay_page, run_page
from clusterctl.sandbox import Sandbox
from tests.builders import altered, cluster
from tests.integration.launching import start
from tests.integration.serving import Serving
from tests.test_report_doctor_page import dial, pages
from tests.test_report_run_page import HOSTILE, record, step
from tests.test_session_serve import FAILED, begun, tell

selenium = pytest.importorskip("selenium", reason="the dev extra has it")
SHOTS = Path(__file__).parents[2] / "build" / "pages"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no browser: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    found = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield found
    found.quit()


def written(folder: Path) -> dict[str, Path]:
    steps = tuple(step(number) for number in range(1, 101))
    hostile = record(tail=(HOSTILE,), steps=tuple(step(number, slow_host=HOSTILE) for number in range(1, 41)))
    names = ["node1", "node2", "node3"]
    dials = [dial(a, b, "timeout" if b == "node2" else "ok") for a in names for b in names if a != b]
    python = msgspec.structs.replace(cluster(3)["node2"].python, packages={"torch": HOSTILE})
    broken = altered(cluster(3), "node2", python=python)
    found = {
        "run": run_page(record(steps=steps)),
        "hostile": run_page(hostile),
        "runs": overlay_page([record(steps=steps), hostile]),
        "doctor": pages(broken, Reachability(dials=tuple(dials), asked=True))[0],
    }
    for name, text in found.items():
        (folder / f"{name}.html").write_text(text)
    return {name: folder / f"{name}.html" for name in found}


SMALLEST_LETTERS = """
const sizes = [...document.querySelectorAll("svg text")]
  .filter((each) => getComputedStyle(each).visibility !== "hidden")
  .map((each) => parseFloat(getComputedStyle(each).fontSize)
    * each.ownerSVGElement.getBoundingClientRect().width / each.ownerSVGElement.viewBox.baseVal.width);
return sizes.length ? Math.min(...sizes) : null;
"""


def requested(browser: Any) -> list[str]:
    """Addresses that were asked for since the last look."""
    entries = [json.loads(each["message"])["message"] for each in browser.get_log("performance")]
    sent = [each["params"] for each in entries if each["method"] == "Network.requestWillBeSent"]
    return [each["request"]["url"] for each in sent]


def test_pages_load_nothing_say_nothing_in_the_console_and_fit(browser: Any, tmp_path: Path) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    for name, path in written(tmp_path).items():
        for width in (1200, 420):
            browser.set_window_size(width, 1600)
            browser.get(path.as_uri())
            assert requested(browser) == [path.as_uri()]
            assert browser.get_log("browser") == []
            wide = browser.execute_script("return document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{name} is wider than a window of {width} px"
            assert browser.execute_script("return document.images.length + document.scripts.length") == 0
            smallest = browser.execute_script(SMALLEST_LETTERS)
            assert smallest is None or smallest >= 9, f"{name} has letters of {smallest} px in {width} px"
            browser.save_screenshot(str(SHOTS / f"{name}-{width}.png"))


def test_the_number_under_the_pointer_is_that_of_the_metrics(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    browser.set_window_size(1200, 1600)
    browser.get(written(tmp_path)["run"].as_uri())
    place = browser.find_elements(By.CSS_SELECTOR, ".chart .at")[49]
    text = place.find_element(By.TAG_NAME, "text")
    assert text.value_of_css_property("visibility") == "hidden"
    ActionChains(browser).move_to_element(place.find_element(By.TAG_NAME, "rect")).perform()
    assert text.value_of_css_property("visibility") == "visible"
    told = re.fullmatch(r"step 50: loss ([\d.]+)", text.text)
    assert told is not None and float(told[1]) == pytest.approx(step(50).loss, rel=1e-6)


def until(true: Callable[[], Any]) -> None:
    """Asked again and again; a browser that is between two states of a page says no."""
    from selenium.common.exceptions import JavascriptException, StaleElementReferenceException

    end = time.monotonic() + 300
    while time.monotonic() < end:
        try:
            if true():
                return
        except (JavascriptException, StaleElementReferenceException):
            pass
        time.sleep(0.05)
    raise AssertionError("it has not come")


def script(browser: Any, expression: str) -> Any:
    return browser.execute_script(f"return {expression}")


LINK = "document.getElementById('link').textContent"
VERDICT = "document.querySelector('#verdict h1').textContent"
READOUTS = "document.querySelectorAll('#curves figure:first-child .at').length"


def foreign(browser: Any, base: str) -> list[str]:
    return [each for each in requested(browser) if not each.startswith((base, "data:"))]


def test_a_page_grows_while_its_run_does_and_tells_its_end(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERCTL_HOME", str(tmp_path))
    directory = begun("20260101-120000-live")
    tell(directory, *range(1, 31), slow_host=HOSTILE)
    hostile = tmp_path / "runs" / "<script>alert(1)<"
    hostile.mkdir()
    (hostile / "plan.json").write_text("{")
    with Serving() as served:
        requested(browser), browser.get_log("browser")
        browser.set_window_size(1200, 900)
        browser.get(served.address)
        assert browser.current_url == served.base + "/", "the token does not stay in the address"
        until(lambda: script(browser, LINK) == "live")
        browser.get(served.base + f"/run/{directory.run}")
        until(lambda: script(browser, LINK) == "live")
        assert script(browser, READOUTS) == 30 and "running, step 30" in script(browser, VERDICT)
        browser.execute_script("kept = document.getElementById('plan').firstChild")
        browser.execute_script("document.querySelector('#plan details').open = true")
        browser.execute_script("scrollTo(0, document.getElementById('plan').offsetTop)")
        place = "document.getElementById('plan').getBoundingClientRect().top"
        before = script(browser, place)
        tell(directory, *range(31, 61), slow_host=HOSTILE)
        until(lambda: script(browser, READOUTS) == 60)
        assert script(browser, "kept.isConnected"), "what is not new is not touched"
        assert abs(script(browser, place) - before) < 2, "the page does not jump"
        directory.write("outcome.json", FAILED)
        until(lambda: script(browser, LINK) == "over")
        assert script(browser, VERDICT).startswith("failed after 1m 40s: h1 rank 1: bad batch </script>")
        assert script(browser, "document.title") == f"{directory.run}: failed"
        assert abs(script(browser, place) - before) < 2 and script(browser, "document.scripts.length") == 1
        for width in (1200, 420):
            browser.set_window_size(width, 1600)
            for name, path in (("serve", f"/run/{directory.run}"), ("serve-list", "/")):
                browser.get(served.base + path)
                until(lambda: script(browser, LINK) in ("live", "over"))
                assert script(browser, "document.documentElement.scrollWidth - innerWidth") <= 0
                browser.save_screenshot(str(SHOTS / f"{name}-{width}.png"))
        assert foreign(browser, served.base) == [] and browser.get_log("browser") == []
        answers_only_whom_it_should(served)
        assert served.end() == 0
        until(lambda: "no answer" in script(browser, LINK))
    browser.get("about:blank")


def answers_only_whom_it_should(served: Serving) -> None:
    """As it comes over the wire, whatever clients make of addresses."""
    cookie = {"Cookie": served.cookie}
    for path, head, status in (
        ("/", cookie, 200),
        ("/", {}, 403),
        ("/?token=wrong", {}, 403),
        ("/?token=wrong", cookie, 403),
        ("/", {**cookie, "Host": "evil.example"}, 421),
        ("/events", {**cookie, "Origin": "http://evil.example"}, 403),
        ("/run/../../../../etc/passwd", cookie, 404),
        ("/run/..%2f..%2f..%2fetc%2fpasswd", cookie, 404),
        ("/run/%2e%2e", cookie, 404),
        ("/run/%3Cscript%3E", cookie, 404),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=300)
        connection.request("GET", path, headers=head)
        assert connection.getresponse().status == status, path
        connection.close()


SCRIPT = """
import json, os, time
from pathlib import Path
rank = int(os.environ["RANK"])
for step in range(1, 1000):
    with open(os.environ["CLUSTERCTL_METRICS"], "a") as file:
        print(json.dumps({"step": step, "loss": 1 / step, "step_s": 1 + rank, "tokens": 8}), file=file)
    time.sleep(0.2)
    if rank == 1 and Path(os.environ["FAIL_AT"]).exists():
        Path(os.environ["FAIL_AT"]).unlink()
        raise ValueError("bad batch </script>")
"""


@pytest.mark.long
@pytest.mark.sandbox
def test_a_real_run_is_seen_as_it_lives_and_dies(browser: Any, sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    flag = f"/tmp/{tmp_path.name}"  # on the host, whose /tmp is its own
    options = ["-n", "2", "--gpus-per-node", "1", "--env", f"FAIL_AT={flag}"]
    with Serving() as served:
        launched = start(sandbox, "train.py", cwd=tmp_path, options=options)
        requested(browser), browser.get_log("browser")
        browser.get(served.address)
        launched.wait_for_ranks(2)
        run = launched.run.name
        until(lambda: run in script(browser, "document.body.textContent"))
        browser.get(f"{served.base}/run/{run}")
        until(lambda: "running, step" in script(browser, VERDICT))
        seen = script(browser, READOUTS)
        until(lambda: script(browser, READOUTS) > seen + 5)
        until(lambda: "rank 1 on node2 was the slowest" in script(browser, "document.body.textContent"))
        sandbox.hosts[1].run(["touch", flag])
        until(lambda: script(browser, LINK) == "over")
        launched.finish()
        assert "node2 rank 1: ValueError: bad batch </script>" in script(browser, VERDICT)
        assert foreign(browser, served.base) == [] and browser.get_log("browser") == []
        browser.save_screenshot(str(SHOTS / "serve-real.png"))
        assert served.end() == 0
    browser.get("about:blank")
