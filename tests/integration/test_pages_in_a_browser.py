"""Pages as people open them: headless Chromium, of Debian's packages chromium and chromium-driver."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusterctl.facts.model import Reachability
from clusterctl.report.html.run import overlay_page, run_page
from tests.builders import altered, cluster
from tests.test_report_doctor_page import dial, pages
from tests.test_report_run_page import HOSTILE, record, step

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
