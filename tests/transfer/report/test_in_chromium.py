"""The page in Debian's Chromium, on a phone and on a desk, light and dark: whole, legible, in view."""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.browser import MISSING, Browser, chromium
from tests.support.transfer.synthetic_runs import STARTS, make_result, make_run
from transfer.report import page as report
from transfer.report.content import Options

# pycocotools 2.0.11 under NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

LONG = "MoCo_v2_" + "pretrained_on_many_photographs_" * 2  # no space to break it at
WIDTHS = {"phone": (390, 844), "desk": (1280, 900)}

# The contrast (WCAG 2) of every text with what lies behind it, as [contrast, text] of the lowest ones.
CONTRASTS = """(() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * x + .7152 * y + .0722 * z;
  };
  const ground = node => {
    for (let one = node; one; one = one.parentElement) {
      const color = parse(getComputedStyle(one).backgroundColor);
      if (color.length === 3) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].filter(c => c.nodeType === 3 && c.textContent.trim());
    if (!own.length || node.closest('.legend svg') || ['style', 'title'].includes(node.localName)) continue;
    const style = getComputedStyle(node);
    const ink = light(parse(node.closest('svg') ? style.fill : style.color)), paper = light(ground(node));
    const contrast = (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
    found.push([contrast, own[0].textContent.trim()]);
  }
  return found.sort((a, b) => a[0] - b[0]).slice(0, 5);
})()"""
PLACES = """[...document.querySelectorAll('SELECTOR')].map(node => {
  const box = node.getBoundingClientRect();
  return [box.left + scrollX, box.top + scrollY, box.right + scrollX, box.bottom + scrollY];
})"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    try:
        with chromium(tmp_path_factory.mktemp("chromium")) as started:
            yield started
    except FileNotFoundError as error:
        if str(error) != MISSING:
            raise
        pytest.skip(MISSING)


@pytest.fixture(scope="module")
def page(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of three starts with two trials each, one of them with a long name, moved away from its folder."""
    root = tmp_path_factory.mktemp("page")
    own = dataclasses.replace(STARTS["MoCo"], label=LONG)
    for init, ap in ((STARTS["random"], 40.0), (STARTS["supervised"], 75.0), (own, 60.0)):
        for seed in (0, 1):
            result = make_result("coco", "MoCo", seed, ap, init=init)
            make_run(root / "runs" / f"{init.kind}_{seed}", result, scenes)
    report.write_report([root / "runs"], root / "report", Options(images=2, resamples=30))
    mailed = root / "mailed.html"
    (root / "report" / "index.html").rename(mailed)
    return mailed


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_whole_and_legible(browser: Browser, page: Path, width: str, scheme: str) -> None:
    browser.errors.clear()
    browser.requested.clear()
    browser.open(page, *WIDTHS[width], scheme)
    assert browser.errors == []
    assert {url.partition(":")[0] for url in browser.requested} == {"file", "data"}
    assert [url for url in browser.requested if url.startswith("file:")] == [page.as_uri()[:100]]
    assert browser.evaluate("innerWidth") == WIDTHS[width][0]
    assert browser.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    lowest = browser.evaluate(CONTRASTS)
    assert len(lowest) == 5
    assert lowest[0][0] >= 4.5, lowest
    shown = np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("RGB"))  # (H, W, 3)
    assert (shown[2, 2].mean() > 200) == (scheme == "light")
    assert browser.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    for selector, count in ((".strip img", 8), (".figures svg", 8)):
        places = browser.evaluate(PLACES.replace("SELECTOR", selector))
        assert len(places) >= count
        for left, top, right, bottom in places:
            assert 0 <= left < right <= WIDTHS[width][0]
            assert bottom > top
            drawn = shown[int(top) : int(bottom), int(left) : int(right)]
            assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 8  # not one flat colour


@pytest.mark.parametrize("width", WIDTHS)
def test_the_difference_is_in_view_without_scrolling(browser: Browser, page: Path, width: str) -> None:
    browser.open(page, *WIDTHS[width], "light")
    for selector in ("tbody td.key", ".differences td.key .interval"):
        places: list[Any] = browser.evaluate(PLACES.replace("SELECTOR", selector))
        assert len(places) >= 3
        assert all(left >= 0 and right <= WIDTHS[width][0] for left, _, right, _ in places)
    (lead,) = browser.evaluate(PLACES.replace("SELECTOR", ".lead"))
    assert lead[3] < WIDTHS[width][1]  # the first sentence is on the first screen, to its end


def test_a_fault_of_the_page_is_noticed(browser: Browser, tmp_path: Path) -> None:
    faulty = tmp_path / "faulty.html"
    wide = '<p style="width: 2000px; color: #ddd">x</p>'
    faulty.write_text(f'<body>{wide}<img src="missing.jpg"><script>console.error("mine"); nobody()</script>')
    browser.errors.clear()
    browser.open(faulty, 390, 844, "light")
    assert all(any(fault in text for text in browser.errors) for fault in ("mine", "nobody", "ERR_FILE_NOT_FOUND"))
    assert browser.evaluate("document.scrollingElement.scrollWidth > innerWidth")
    assert browser.evaluate(CONTRASTS)[0][0] < 4.5
    assert not browser.evaluate("[...document.images].every(one => one.naturalWidth > 0)")
