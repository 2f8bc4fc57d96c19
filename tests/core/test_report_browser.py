"""The page in a browser: filter, keyboard, colours, a phone, paper; and nothing leaves it."""

import json
import re
import shutil

import pytest
from report_cases import STATES, make_report

pytestmark = pytest.mark.browser

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return make_report().write_html(tmp_path_factory.mktemp("report") / "index.html").as_uri()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    if BROWSER is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver's path given, selenium does not look for one to download.
    browser = webdriver.Chrome(options=options, service=Service(executable_path=DRIVER))
    yield browser
    browser.quit()


@pytest.fixture
def view(driver, page):
    """Open the page afresh at a width, in a colour scheme, on a medium, with or without scripts."""

    def open_page(width=1280, scheme="light", medium="screen", script=True, anchor=""):
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": features})
        driver.get("about:blank")
        driver.get(page + anchor)
        return driver

    yield open_page
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def shown(driver):
    cards = driver.find_elements("css selector", ".claim")
    return {card.get_attribute("id") for card in cards if card.is_displayed()}


def find(driver, selector):
    return driver.find_element("css selector", selector)


def in_state(*states):
    return {claim for claim, state in STATES.items() if state in states}


def test_filter_by_state_paper_and_text(view):
    driver = view()
    assert shown(driver) == set(STATES)
    status = find(driver, "#shown")
    assert status.get_attribute("role") == "status"

    fails = find(driver, '.toggle[data-state="fails"]')
    fails.click()
    assert fails.get_attribute("aria-pressed") == "true"
    assert shown(driver) == in_state("fails")
    find(driver, '.toggle[data-state="known miss"]').click()
    assert shown(driver) == in_state("fails", "known miss")
    assert status.text == "3 of 8 claims"

    find(driver, '#paper option[value="first-paper"]').click()
    assert shown(driver) == {"first-paper/fails", "first-paper/miss"}
    assert not find(driver, 'section[id="second-paper"]').is_displayed()

    find(driver, "#text").send_keys("STATEMENT miss")
    assert shown(driver) == {"first-paper/miss"}
    find(driver, "#text").send_keys(" nowhere")
    assert shown(driver) == set()
    assert find(driver, "#none").is_displayed()

    find(driver, "#clear").click()
    assert shown(driver) == set(STATES)
    assert status.text == "8 claims"
    assert fails.get_attribute("aria-pressed") == "false"


def test_link_to_a_claim_shows_it_though_a_filter_hid_it(view):
    driver = view()
    find(driver, '.toggle[data-state="error"]').click()
    find(driver, '.dot[href="#first-paper/holds"]').click()
    assert find(driver, '[id="first-paper/holds"]').is_displayed()
    driver = view(anchor="#second-paper/odd")
    top = driver.execute_script(
        "return document.getElementById('second-paper/odd').getBoundingClientRect().top"
    )
    assert 0 <= top < 800


def test_folding(view):
    driver = view()
    pictures = driver.find_elements("css selector", "figure svg")
    assert len(pictures) == 2
    fold = find(driver, "#fold")
    fold.click()
    assert not any(picture.is_displayed() for picture in pictures)
    fold.click()
    assert all(picture.is_displayed() for picture in pictures)


def test_everything_is_within_reach_of_the_tab_key(view):
    from selenium.webdriver.common.keys import Keys

    driver = view()
    find(driver, "body").send_keys(Keys.TAB)
    assert driver.switch_to.active_element.text == "Skip to the claims"
    reached = set()
    for _ in range(80):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        active = driver.switch_to.active_element
        reached.add(active.get_attribute("id") or active.get_attribute("class"))
    assert {"theme", "text", "paper", "fold", "scroll", "anchor"} <= reached
    toggle = find(driver, '.toggle[data-state="error"]')
    toggle.send_keys(Keys.SPACE)
    assert shown(driver) == in_state("error")


def test_no_request_leaves_the_page_and_the_console_is_silent(view, page):
    driver = view()
    driver.get_log("performance")
    driver.get_log("browser")
    driver = view()
    find(driver, "#text").send_keys("holds")
    find(driver, "#theme").click()
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert page in urls
    assert {url for url in urls if not url.startswith(("data:", "about:"))} == {page}
    loaded = driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []
    assert driver.get_log("browser") == []
    assert driver.title.startswith("mlpapers: reproduction report")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_never_scrolls_sideways(view, width):
    driver = view(width=width)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    # Wide tables and tracebacks scroll by themselves.
    scrolls = (
        "return [...document.querySelectorAll('.claim .scroll')].some(e => e.scrollWidth > e.clientWidth)"
    )
    assert driver.execute_script(scrolls)


def luminance(color):
    red, green, blue = (
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in (float(part) / 255 for part in re.findall(r"[\d.]+", color)[:3])
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# For each element with text of its own: the text's colour on the ground behind it, both as sRGB pixels.
COLORS = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const pixel = (...layers) => {
  canvas.clearRect(0, 0, 1, 1);
  for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); }
  return `rgb(${[...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)})`;
};
return [...document.querySelectorAll("body *:not(svg *)")].filter(e => e.checkVisibility()
    && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => {
  const layers = [];
  for (let n = e; n; n = n.parentElement) layers.unshift(getComputedStyle(n).backgroundColor);
  const ground = pixel("white", ...layers);
  return [e.className || e.tagName, e.textContent, ground, pixel(ground, getComputedStyle(e).color)];
});
"""


@pytest.mark.parametrize("pressed", [False, True])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_colour_schemes(view, scheme, pressed):
    driver = view(scheme=scheme)
    if pressed:
        for toggle in driver.find_elements("css selector", ".toggle"):
            toggle.click()
    found = driver.execute_script(COLORS)
    assert len(found) > 100
    ground = luminance(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert (ground > 0.5) == (scheme == "light")
    for where, text, *colors in found:
        dark, light = sorted(map(luminance, colors))
        # WCAG 2.1, 1.4.3: 4.5 to 1 for text of ordinary size.
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (where, text[:30], colors)


def test_the_button_changes_the_colours(view):
    for scheme in ("light", "dark"):
        driver = view(scheme=scheme)
        ground = "return getComputedStyle(document.body).backgroundColor"
        ink = "return getComputedStyle(document.querySelector('figure svg text')).fill"
        before = [driver.execute_script(query) for query in (ground, ink)]
        find(driver, "#theme").click()
        after = [driver.execute_script(query) for query in (ground, ink)]
        assert (luminance(before[0]) > 0.5) == (scheme == "light")
        assert (luminance(after[0]) > 0.5) == (scheme == "dark")
        assert (luminance(before[1]) < 0.5) == (scheme == "light")
        assert (luminance(after[1]) < 0.5) == (scheme == "dark")


def test_without_scripts_everything_is_shown_and_dead_controls_are_not(view):
    driver = view(script=False)
    assert shown(driver) == set(STATES)
    assert all(
        item.is_displayed() for item in driver.find_elements("css selector", ".claim table, figure svg")
    )
    assert not find(driver, "#filters").is_displayed()
    assert not find(driver, "#theme").is_displayed()


def test_paper_shows_what_is_folded(view):
    driver = view()
    find(driver, "#fold").click()
    seen = "return document.querySelector('figure svg').checkVisibility()"
    assert not driver.execute_script(seen)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert driver.execute_script(seen)
    assert not find(driver, "#filters").is_displayed()
