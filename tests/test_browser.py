"""What a person sees: MLflow's page of a storage folder in a real browser."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.mirror import Mirror, default_uri, ui_command
from orchestrator.mirror.server import sweep_pages
from orchestrator.store.paths import StoragePaths
from tests.support.mirroring import RecordedSweep
from tests.support.serving import free_port, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--window-size=1600,1200",
)
_SECONDS = 90.0


@pytest.fixture
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium is not installed; on Debian: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
        yield opened
        opened.quit()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """The address of `cpsc-orchestrate ui` on a folder with one sweep of four trials."""
    sweep = RecordedSweep(tmp_path / "storage")
    for number, epochs in enumerate((2, 4, 3, 1)):
        sweep.finished(number, epochs=epochs)
    sweep.note(finished="complete")
    storage = sweep.paths.storage
    Mirror(default_uri(storage), sweep.paths).close()
    command, environment = ui_command(storage, None, port=free_port())
    with serving(command, environment, tmp_path / "server.log") as address:
        yield address


def find(browser: Any, xpath: str) -> Any:
    """The first visible element, as soon as there is one."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        for element in browser.find_elements("xpath", xpath):
            if element.is_displayed():
                return element
        time.sleep(0.2)
    raise AssertionError(
        f"nothing at {xpath}; the page says: {browser.find_element('tag name', 'body').text[:1500]}"
    )


def click(browser: Any, xpath: str) -> None:
    """Click what is found, again if the page was redrawn meanwhile."""
    from selenium.common.exceptions import WebDriverException

    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            find(browser, xpath).click()
        except WebDriverException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)
        else:
            return


def test_the_best_trial_is_found_and_its_images_and_curve_are_seen(
    browser: Any, url: str, tmp_path: Path
) -> None:
    storage = StoragePaths(tmp_path / "storage")
    browser.get(f"{url}/#/experiments")
    find(browser, "//a[normalize-space()='digits']")
    # The address that `cpsc-orchestrate ui` prints: the list leads to pages for language models.
    runs = sweep_pages(storage, url)["digits"]
    browser.get(runs)
    sort_by(browser, "objective")
    wait_until(lambda: names_from_the_top(browser) == ["trial-001", "trial-002", "trial-000", "trial-003"])
    click(browser, "//a[normalize-space()='trial-001']")

    click(browser, "//*[@role='tab' and contains(., 'Model metrics')]")
    find(browser, "//*[normalize-space(text())='val_accuracy']")
    curve = find(browser, "//*[name()='svg' and contains(@class, 'main-svg')]")
    assert curve.size["width"] > 100

    click(browser, "//*[@role='tab' and contains(., 'Artifacts')]")
    click(browser, "//*[normalize-space(text())='images']")
    click(browser, "//*[contains(text(), 'samples+step+3') and contains(text(), '.png')]")
    wait_until(lambda: (6, 4) in pictures(browser))


def sort_by(browser: Any, figure: str) -> None:
    """Choose a figure in the menu of what trials are sorted by, which a busy page closes again or ignores."""
    from selenium.common.exceptions import WebDriverException

    item = f"//*[@role='menuitemcheckbox' and normalize-space()='{figure}']"

    def is_sorted() -> bool:
        if browser.find_elements("xpath", f"//button[contains(normalize-space(), 'Sort: {figure}')]"):
            return True
        try:
            if not browser.find_elements("xpath", item):
                find(browser, "//button[contains(normalize-space(), 'Sort: ')]").click()
                time.sleep(2.0)
            for shown in browser.find_elements("xpath", item):
                shown.click()
        except WebDriverException:  # the page was redrawn meanwhile
            pass
        return False

    wait_until(is_sorted)


def names_from_the_top(browser: Any) -> list[str]:
    """The trials in the order they are seen in, which is not that of the page's source."""
    script = """return [...document.querySelectorAll("a")]
        .filter(each => each.innerText.trim().startsWith("trial-"))
        .map(each => [each.getBoundingClientRect().top, each.innerText.trim()])"""
    return [name for _, name in sorted(browser.execute_script(script))]


def pictures(browser: Any) -> list[tuple[int, int]]:
    """Width and height of every picture on the page, as it was made."""
    script = "return [...document.images].map(each => [each.naturalWidth, each.naturalHeight])"
    return [tuple(size) for size in browser.execute_script(script)]


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.3)


def test_the_report_can_be_read_without_a_network(browser: Any, tmp_path: Path) -> None:
    from orchestrator.config import parse_experiment
    from orchestrator.report.page.page import write_report
    from orchestrator.store.folder import SweepFolder
    from tests.support.command import EXPERIMENT

    sweep = RecordedSweep(tmp_path)
    sweep.paths.experiment.write_text(parse_experiment(EXPERIMENT).text)
    sweep.finished(0)
    write_report(SweepFolder(sweep.paths))

    browser.set_window_size(420, 900)
    browser.get(sweep.paths.report.as_uri())

    slider = find(browser, "//input[@type='range']")
    before = find(browser, "//*[@class='frame shown']/figcaption").text
    browser.execute_script("arguments[0].value = 0; arguments[0].dispatchEvent(new Event('input'))", slider)
    after = find(browser, "//*[@class='frame shown']/figcaption").text
    assert (before, after) == ("epoch 3", "epoch 1")
    wide = browser.execute_script("return document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0
    assert browser.get_log("browser") == []
