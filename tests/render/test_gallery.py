import math
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from mssync.render import gallery
from mssync.render.gallery import GalleryEntry, MetricRow, MetricTable, SyncPlot

CHROMIUM = os.environ.get("MSSYNC_CHROMIUM") or shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
]  # fmt: skip


@dataclass(frozen=True)
class Number:
    value: float | None
    low: float | None = None
    high: float | None = None


def table(values, normalised=None):
    return MetricTable(
        title="LSE-D",
        explanation="How well the face fits the voice.",
        better="lower",
        columns=["Ground truth", "Generated"],
        rows=[MetricRow(gallery.level_label(0), values, normalised, 24)],
    )


def write(out, entries, **changes):
    arguments = {
        "title": "Evaluation",
        "summary": "Half way from floor to truth.",
        "tables": [table([Number(6.1, 5.8, 6.4), Number(7.95)], Number(0.5, 0.4, 0.6))],
        "facts": {"Commit": "815419b"},
        "sync_plots": [SyncPlot("Level 0", [-0.04, 0, 0.04], {"Ground truth": [2.0, 1.0, 2.0]})],
        "panel_px": 96,
    }
    gallery.write_gallery(out, entries, **(arguments | changes))
    return out


@pytest.fixture(scope="module")
def entries(speak):
    found = []
    for number, syllables_hz in enumerate((2.5, 3.5)):
        real, generated = speak(syllables_hz, number), speak(syllables_hz + 0.4, number + 9)
        found.append(
            GalleryEntry(
                clip_id=f"talk-{number}",
                speaker=f"speaker-{number}",
                motions={"Ground truth": real.motion_TPD, "Generated": generated.motion_TPD},
                waveform=real.waveform,
                scores={"LSE-D": {"Ground truth": 6.12, "Generated": None}},
                warnings=["head motion has collapsed"] if number == 0 else [],
            )
        )
    return found


@pytest.fixture(scope="module")
def page_file(tmp_path_factory, entries):
    return write(tmp_path_factory.mktemp("gallery") / "new" / "index.html", entries)


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM or not Path(CHROMIUM).exists():
        pytest.skip("no Chromium: install it, or name it in MSSYNC_CHROMIUM")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser, page_file):
    """The gallery, opened from the disk; anything it complains about or fetches fails the test."""
    complaints = []
    opened = browser.new_page(viewport={"width": 1200, "height": 800})
    opened.on("console", lambda message: complaints.append(f"console: {message.text}"))
    opened.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    opened.on(
        "request",
        lambda request: (
            request.url.startswith(("http:", "https:"))
            and complaints.append(f"request: {request.url}")
        ),
    )
    opened.goto(page_file.as_uri())
    wait_until(
        opened, "[...document.querySelectorAll('video')].every((video) => video.readyState >= 3)"
    )
    yield opened
    opened.close()
    assert complaints == []


def state(page, expression):
    return page.evaluate(f"[...document.querySelectorAll('video')].map((video) => {expression})")


def wait_until(page, expression):
    """Playwright's own waiting evaluates strings, which the page's security policy forbids."""
    for _ in range(500):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    pytest.fail(f"never came true: {expression}")


def wait_until_playing(page, clip):
    wait_until(page, f"document.querySelectorAll('video')[{clip}].currentTime > 0.15")


# --- in a browser --------------------------------------------------------------------------------


def test_every_clip_lasts_120_frames_and_has_pictures(page):
    assert state(page, "video.duration") == pytest.approx([4.8, 4.8], abs=0.05)
    assert state(page, "[video.videoWidth, video.videoHeight]") == [[192, 112]] * 2
    assert state(page, "video.error") == [None, None]


def test_play_all_plays_the_first_clip_with_sound(page):
    page.get_by_role("button", name="Play all").click()
    wait_until_playing(page, 0)
    wait_until(page, "document.querySelector('video').webkitAudioDecodedByteCount > 4000")
    assert state(page, "video.paused") == [False, True]
    assert page.locator(".wave").first.evaluate("wave => wave.style.getPropertyValue('--at')") > "0"


def test_the_next_clip_follows_when_one_ends(page):
    page.keyboard.press("Space")
    wait_until_playing(page, 0)
    page.evaluate("document.querySelector('video').currentTime = 4.6")
    wait_until_playing(page, 1)
    assert state(page, "video.paused") == [True, False]


def test_space_pauses_and_goes_on_where_it_stopped(page):
    page.keyboard.press("Space")
    wait_until_playing(page, 0)
    page.keyboard.press("Space")
    assert state(page, "video.paused") == [True, True]
    stopped_s = state(page, "video.currentTime")[0]
    page.keyboard.press("Space")
    wait_until(page, f"document.querySelector('video').currentTime > {stopped_s} + 0.1")


def test_only_one_clip_is_heard_at_a_time(page):
    page.get_by_role("button", name="Play talk-0").click()
    wait_until_playing(page, 0)
    page.get_by_role("button", name="Play talk-1").click()
    wait_until_playing(page, 1)
    assert state(page, "video.paused") == [True, False]


def test_a_click_on_the_waveform_jumps_there(page):
    wave = page.locator(".wave").nth(1)
    wave.scroll_into_view_if_needed()
    wave.click(position={"x": wave.bounding_box()["width"] / 2, "y": 10})
    wait_until(page, "Math.abs(document.querySelectorAll('video')[1].currentTime - 2.4) < 0.1")


def test_arrow_keys_step_by_frames(page):
    wave = page.get_by_role("slider", name="Position in talk-0")
    wave.press("PageUp")
    wave.press("ArrowRight")
    wait_until(page, "Math.abs(document.querySelector('video').currentTime - 1.04) < 0.001")


def test_slow_motion_reaches_every_clip(page):
    page.get_by_label("Speed").select_option("0.25")
    assert state(page, "video.playbackRate") == [0.25, 0.25]


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_no_width_needs_sideways_scrolling(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_light_and_dark_follow_the_reader(page):
    def shade():
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in re.findall(r"\d+", colour))

    page.emulate_media(color_scheme="light")
    light = shade()
    page.emulate_media(color_scheme="dark")
    assert shade() < light / 4


def test_what_can_be_pressed_has_a_name(page):
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, select, video, [role]')].filter((element) =>"
        " !element.ariaLabel && !element.textContent.trim() && !element.labels?.length).length"
    )
    assert unnamed == 0


# --- the file ------------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_outside(page_file):
    text = re.sub(r"data:video/mp4;base64,[A-Za-z0-9+/=]+", "data:video", page_file.read_text())
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert "http" not in text.replace("http-equiv", "")
    assert list(page_file.parent.iterdir()) == [page_file]


def test_scores_warnings_and_facts_are_on_the_page(page_file):
    text = page_file.read_text()
    for expected in ("[5.80, 6.40]", "0.500", "width: 50.0%", "6.12", "n/a", "815419b",
                     "head motion has collapsed", "lower is better"):  # fmt: skip
        assert expected in text, expected


def test_a_score_that_cannot_be_placed_is_not_available(tmp_path):
    unplaced = table([Number(6.0), Number(math.nan)], Number(None))
    text = write(tmp_path / "index.html", [], tables=[unplaced]).read_text()
    body = text[text.index("<main>") :]
    assert body.count("n/a</td>") == 1
    assert '<span class="placed">n/a</span>' in body


def test_names_cannot_inject_markup(tmp_path):
    text = write(tmp_path / "index.html", [], title="<script>alert(1)</script>").read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_a_page_without_clips_or_plots_is_written(tmp_path):
    text = write(tmp_path / "index.html", [], sync_plots=[], tables=[]).read_text()
    assert "<video" not in text


def test_a_row_that_does_not_fit_its_columns_is_refused(tmp_path):
    with pytest.raises(ValueError, match="2 columns but 1 values"):
        write(tmp_path / "index.html", [], tables=[table([Number(1.0)])])


def test_sound_longer_than_the_motion_is_cut(tmp_path, portrait):
    motion = np.repeat(portrait[None], 25, axis=0)
    long = np.zeros(16_000 * 9, np.float32)
    entry = GalleryEntry("clip", "speaker", {"Real": motion}, long)
    text = write(tmp_path / "index.html", [entry]).read_text()
    assert 'aria-valuemax="1.0"' in text


def test_a_page_that_fails_leaves_the_old_one(tmp_path, portrait):
    out = write(tmp_path / "index.html", [])
    before = out.read_text()
    broken = GalleryEntry("clip", "speaker", {"Real": portrait[None] * np.nan}, np.zeros(640, "f4"))
    with pytest.raises(ValueError, match="finite"):
        write(out, [broken])
    assert out.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_levels_are_named_by_rate_and_window():
    assert gallery.level_label(2) == "Level 2 · 6.25 Hz · 0.8 s windows"
