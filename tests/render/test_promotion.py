"""The decision's page, as a browser shows it from a disk."""

import os
import re
import shutil

import pytest
from playwright.sync_api import sync_playwright

from mssync.metrics.version import METRIC_VERSION
from mssync.render import gallery, gate
from mssync.render.gallery import Page

CHROMIUM = os.environ.get("MSSYNC_CHROMIUM") or shutil.which("chromium")
METRIC = "lse_d.all.level0.normalised"
DECISION = {
    "decision": "refuse",
    "reason": f"{METRIC} is 0.41 & not shown to be better <than> 0.4",
    "metric": METRIC,
    "metrics": {
        METRIC: {
            "better": "higher", "tolerance": 0.0, "champion": 0.4, "challenger": 0.41,
            "gain": 0.01, "low": -0.02, "high": 0.04, "verdict": "unsure",
        },
        "rigidity.value": {
            "better": "lower", "tolerance": 0.002, "champion": 0.004, "challenger": 0.004,
            "gain": None, "low": None, "high": None, "verdict": "untold",
        },
    },
    "sequences": 24,
    "speakers": 2,
    "confidence": 0.95,
    "scored_by": {"metric_version": METRIC_VERSION, "test_set": "t" * 64, "judges": "j" * 64},
}  # fmt: skip


def test_it_has_the_decision_the_reason_and_every_metric():
    html = gate.page(DECISION, gallery="../evaluation/gallery/index.html")
    assert "0.41 &amp; not shown to be better &lt;than&gt; 0.4" in html
    assert len(re.findall('<th scope="row">', html)) == 2
    assert "24 sequences of 2 speakers; intervals of 95%" in html


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_gallery_below_the_decision_from_a_disk(tmp_path, width):
    shown = tmp_path / "evaluation" / "gallery" / "index.html"
    gallery.write_gallery(shown, Page(title="What was measured", summary="Half way."))
    page_file = tmp_path / "promotion" / "index.html"
    page_file.parent.mkdir()
    page_file.write_text(gate.page(DECISION, gallery="../evaluation/gallery/index.html"))
    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto(page_file.as_uri())
        told = page.get_by_role("heading", name="Refused")
        inside = page.frame_locator("iframe").get_by_role("heading", name="What was measured")
        inside.wait_for(timeout=10_000)
        assert told.bounding_box()["y"] < 20 < inside.bounding_box()["y"] < 200
        page.get_by_text("Every metric that was compared").click()
        assert page.get_by_role("table").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
