import math
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from playwright.sync_api import sync_playwright

from mssync.errors import InputError
from mssync.render import gallery, payload, plots
from mssync.render.gallery import Cell, MetricRow, MetricTable, Page, Plots, TextTable
from mssync.render.payload import Failure, GalleryEntry, Trace

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


SYSTEMS = ("Ground truth", "Generated")
FRAMES = 120


def table(values, normalised=None):
    return MetricTable(
        title="LSE-D",
        explanation="How well the face fits the voice.",
        better="lower",
        columns=list(SYSTEMS),
        rows=[
            MetricRow(gallery.level_label(level), row, normalised, 24)
            for level, row in enumerate(values)
        ],
    )


def page_of(entries, **changes):
    curve = plots.sync_curves([-0.04, 0, 0.04], {"Ground truth": [2.0, 1.0, 2.0]})
    shown = {
        "title": "Evaluation",
        "summary": "Half way from floor to truth.",
        "notes": ["Decision: promoted, level 0 is better."],
        "tables": [
            table(
                [[Number(6.1, 5.8, 6.4), Number(7.95)], [Number(2.0), Number(11.0)]],
                Number(0.5, 0.4, 0.6),
            )
        ],
        "facts": {"Commit": "815419b"},
        "entries": entries,
        "plots": [Plots("Sync curves", "A valley is good.", ["Ground truth"], [("0", curve)])],
        "judged": "Generated",
    }
    return Page(**(shown | changes))


def write(out, entries, **changes):
    gallery.write_gallery(out, page_of(entries, **changes), panel_px=96, embedded=1)
    return out


def talk(speak, number, *, failures=()):
    real, generated = speak(2.5 + number % 3, number), speak(2.9 + number % 3, number + 9)
    motions = dict(zip(SYSTEMS, (real.motion_TPD, generated.motion_TPD), strict=True))
    steps = np.linspace(1, 2 + number, 116, dtype=np.float32)
    return GalleryEntry(
        clip_id=f"talk-{number}",
        speaker=f"speaker-{number % 5}",
        motions=motions,
        waveform=real.waveform,
        scores={"LSE-D": {"Ground truth": 6.12, "Generated": 9.5 - number if number else None}},
        warnings=["other music"] if number == 0 else [],
        failures={"Generated": list(failures)},
        head_speeds={name: np.abs(np.sin(np.arange(FRAMES, dtype=np.float32))) for name in motions},
        traces=[Trace(0, 0.1, 0.04, {"Ground truth": steps, "Generated": 2 * steps})],
    )


@pytest.fixture(scope="module")
def entries(speak):
    return [
        talk(speak, 0, failures=[Failure("collapsed head", 57)]),
        talk(speak, 1),
        talk(speak, 2),
    ]


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
def visit(browser):
    """Open a page from the disk; anything it complains about or fetches fails the test."""
    complaints, visited = [], []

    def opened(file):
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("http:", "https:"))
                and complaints.append(f"request: {request.url}")
            ),
        )
        page.goto(file.as_uri())
        visited.append(page)
        return page

    yield opened
    for page in visited:
        page.close()
    assert complaints == []


@pytest.fixture
def page(visit, page_file):
    opened = visit(page_file)
    opened.evaluate("document.getElementById('grid').scrollIntoView()")
    wait_until(opened, "document.querySelectorAll('.face').length === 6")
    return opened


def wait_until(page, expression):
    """Playwright's own waiting evaluates strings, which the page's security policy forbids."""
    for _ in range(500):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    pytest.fail(f"never came true: {expression}")


def pixels(page, clip, system):
    return page.evaluate(f"cards[{clip}].faces[{system}].canvas.toDataURL()")


def clips_in_order(page):
    return page.locator("article h3").all_inner_texts()


# --- in a browser --------------------------------------------------------------------------------


def test_the_browser_reads_the_motion_that_was_written(page, entries):
    for number, entry in enumerate(entries[:2]):
        for name, motion in entry.motions.items():
            found = page.evaluate(f"Array.from(cards[{number}].clip.motions[{name!r}])")
            read = np.reshape(found, motion.shape) / payload.QUANTUM
            assert np.abs(read - motion).max() <= 0.51 / payload.QUANTUM


def test_the_browser_decodes_the_sound_sample_by_sample(page, entries):
    found = page.evaluate(
        "new OfflineAudioContext(1, 1, 16000)"
        ".decodeAudioData(bytesOf(cards[0].clip.sound.split(',')[1]).buffer)"
        ".then((sound) => Array.from(sound.getChannelData(0)))"
    )
    assert len(found) == FRAMES * 640
    assert np.abs(np.array(found) - np.clip(entries[0].waveform, -1, 1)).max() < 1e-3


def test_play_plays_the_first_clip_with_sound_and_moves_its_faces(page):
    before = pixels(page, 0, 1)
    page.get_by_role("button", name="Play", exact=True).click()
    wait_until(page, "player.sound.currentTime > 0.15")
    wait_until(page, "player.sound.webkitAudioDecodedByteCount > 4000")
    assert page.evaluate("player.card.index") == 0
    wait_until(page, "cards[0].frame > 3")
    assert pixels(page, 0, 1) != before
    assert page.evaluate("Math.abs(cards[0].time_s - player.sound.currentTime)") < 0.5


def test_two_frames_stepped_to_differ(page):
    seen = []
    for _ in range(4):
        page.keyboard.press(".")
        seen.append((page.evaluate("cards[0].frame"), pixels(page, 0, 0), pixels(page, 0, 1)))
    assert [frame for frame, _, _ in seen] == [1, 2, 3, 4]
    assert len({real for _, real, _ in seen}) == len({made for _, _, made in seen}) == 4
    page.keyboard.press(",")
    assert page.evaluate("cards[0].frame") == 3
    assert pixels(page, 0, 1) == seen[2][2]


def test_keys_jump_pause_mute_and_change_the_speed(page):
    page.keyboard.press("ArrowRight")
    assert page.evaluate("cards[0].frame") == 5
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("cards[0].frame") == 0
    page.keyboard.press("<")
    page.keyboard.press("m")
    page.keyboard.press("Space")
    wait_until(page, "player.sound.currentTime > 0.1")
    assert page.evaluate("[player.sound.playbackRate, player.sound.muted]") == [0.5, True]
    page.keyboard.press("Space")
    assert page.evaluate("[player.playing, player.sound.paused]") == [False, True]
    page.keyboard.press(">")
    page.keyboard.press("m")
    assert page.evaluate("[player.sound.playbackRate, player.sound.muted]") == [1, False]


def test_one_clip_is_heard_at_a_time(page):
    page.get_by_role("button", name="Play talk-0").click()
    wait_until(page, "player.sound.currentTime > 0.1")
    page.get_by_role("button", name="Play talk-1").click()
    wait_until(page, "player.card.index === 1 && player.sound.currentTime > 0.1")
    assert page.locator("article.playing").count() == 1
    page.keyboard.press("n")
    wait_until(page, "player.card.index === 2")
    page.keyboard.press("p")
    wait_until(page, "player.card.index === 1")


def test_the_next_clip_follows_when_one_ends(page):
    page.keyboard.press("Space")
    wait_until(page, "player.sound.currentTime > 0.1")
    page.evaluate("player.seek(cards[0], 4.7)")
    wait_until(page, "player.card.index === 1 && player.sound.currentTime > 0.1")


def test_a_click_on_the_curves_jumps_there_and_the_faces_follow(page):
    strip = page.locator("article").nth(1).locator(".strip")
    strip.scroll_into_view_if_needed()
    strip.click(position={"x": page.evaluate("cards[1].strip.x(2.4)"), "y": 20})
    assert page.evaluate("cards[1].time_s") == pytest.approx(2.4, abs=0.03)
    values = page.locator("article").nth(1).locator(".now").all_inner_texts()
    steps = np.linspace(1, 3, 116)
    at = steps[round((page.evaluate("cards[1].time_s") - 0.1) / 0.04)]
    assert [float(value) for value in values] == pytest.approx([at, 2 * at], abs=0.06)


def test_scrubbing_goes_through_the_frames(page):
    page.evaluate("player.choose(cards[1])")
    page.get_by_label("Frame", exact=True).fill("99")
    assert page.evaluate("cards[1].frame") == 99


def test_a_failure_leads_to_its_first_bad_frame(page):
    page.get_by_role("button", name="collapsed head · frame 57").click()
    assert page.evaluate("cards[0].frame") == 57


def test_clips_are_listed_as_given_and_sorted_by_a_click(page):
    assert clips_in_order(page) == ["talk-0", "talk-1", "talk-2"]
    column = page.locator("#clip-list").get_by_role("button", name="LSE-D")
    column.click()
    assert clips_in_order(page) == ["talk-1", "talk-2", "talk-0"], "the worst first, unknown last"
    column.click()
    assert clips_in_order(page) == ["talk-2", "talk-1", "talk-0"]
    assert page.locator("#clip-list tbody th").all_inner_texts() == ["talk-2", "talk-1", "talk-0"]


def test_clips_can_be_searched_and_failures_alone_shown(page):
    page.get_by_label("failures only").check()
    assert clips_in_order(page) == ["talk-0"]
    page.get_by_label("failures only").uncheck()
    page.get_by_label("Find").fill("SPEAKER-2")
    assert clips_in_order(page) == ["talk-2"]
    assert page.locator("#count").inner_text() == "1 of 3 clips"


def test_a_score_table_is_sorted_by_its_numbers(page):
    scores = page.locator("main table.sortable").first
    scores.get_by_role("button", name="Generated").click()
    assert scores.locator("tbody th").all_inner_texts()[0].startswith("Level 1")
    scores.get_by_role("button", name="Generated").click()
    assert scores.locator("tbody th").all_inner_texts()[0].startswith("Level 0")


def test_a_clip_is_saved_as_gif_and_as_mp4(page, tmp_path):
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download talk-0 as GIF").click()
    saved.value.save_as(tmp_path / "a.gif")
    with av.open(str(tmp_path / "a.gif")) as gif:
        pictures = [frame.to_ndarray(format="rgb24") for frame in gif.decode(video=0)]
    assert len(pictures) == FRAMES // 2
    assert pictures[0].shape == (222, 400, 3)
    assert (pictures[0] != pictures[10]).any()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download talk-0 as MP4").click()
    saved.value.save_as(tmp_path / "a.mp4")
    assert saved.value.suggested_filename == "talk-0.mp4"
    with av.open(str(tmp_path / "a.mp4")) as video:
        assert video.streams.video[0].frames == FRAMES
        assert len(video.streams.audio) == 1
    assert page.get_by_role("link", name="as MP4").count() == 1


def test_two_hundred_clips_are_drawn_only_where_one_looks(visit, tmp_path, speak):
    one = talk(speak, 1)
    many = [
        GalleryEntry(**(vars(one) | {"clip_id": f"talk-{number:03d}"})) for number in range(200)
    ]
    out = tmp_path / "many.html"
    gallery.write_gallery(out, page_of(many), embedded=0)
    page = visit(out)
    wait_until(page, "document.querySelectorAll('article').length === 200")
    page.evaluate("document.getElementById('grid').scrollIntoView()")
    wait_until(page, "document.querySelectorAll('.face').length > 3")
    assert page.evaluate("document.querySelectorAll('.face').length") < 40
    page.evaluate("cards[199].shell.scrollIntoView()")
    wait_until(page, "cards[199].clip !== null && cards[0].clip === null")
    assert page.evaluate("document.querySelectorAll('.face').length") < 40
    page.evaluate("player.play(cards[199])")
    wait_until(page, "player.sound.currentTime > 0.1")
    drawing_ms = page.evaluate(
        "(() => { const from = performance.now(); for (let i = 0; i < 25; i++) cards[199].draw();"
        " return (performance.now() - from) / 25; })()"
    )
    assert drawing_ms < 40, "a frame is drawn within its time"


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
        "[...document.querySelectorAll('button, select, input, canvas, [role]')].filter((found) =>"
        " !found.ariaLabel && !found.textContent.trim() && !found.labels?.length"
        " && !found.getAttribute('aria-labelledby')).map((found) => found.outerHTML)"
    )
    assert unnamed == []


# --- the file ------------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_outside(page_file):
    text = re.sub(r"data:(video|audio)/\w+;base64,[A-Za-z0-9+/=]+", "", page_file.read_text())
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert "http" not in text.replace("http-equiv", "")
    assert list(page_file.parent.iterdir()) == [page_file]


def test_scores_notes_and_facts_are_on_the_page(page_file):
    text = page_file.read_text()
    for expected in ("[5.80, 6.40]", "0.500", "width: 50.0%", "815419b", "lower is better",
                     "Decision: promoted", "collapsed head"):  # fmt: skip
        assert expected in text, expected


def test_what_was_written_is_read_back(page_file, entries):
    found = payload.read(page_file)
    for read, entry in zip(found, entries, strict=True):
        assert (read.clip_id, read.speaker, read.scores) == (
            entry.clip_id, entry.speaker, entry.scores)  # fmt: skip
        for name, motion in entry.motions.items():
            assert np.abs(read.motions[name] - motion).max() <= 0.51 / payload.QUANTUM
        assert np.abs(read.waveform - np.clip(entry.waveform, -1, 1)).max() < 1e-4
        assert read.traces[0].systems.keys() == entry.traces[0].systems.keys()
    assert found[0].failures == {"Generated": [Failure("collapsed head", 57)]}


def test_a_gallery_of_before_has_no_clips(tmp_path):
    old = tmp_path / "old.html"
    old.write_text("<html><video src='data:video/mp4;base64,AAAA'></video></html>")
    assert payload.read(old) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (("clip-data-2", "clip-lost-2"), "damaged one .*clip-data-2"),
        (('"format":1', '"format":9'), "of format 9, expected 1: evaluate again"),
        (('"frames":120', '"frames":77'), "damaged one"),
    ],
)
def test_a_damaged_gallery_says_so(page_file, tmp_path, damage, message):
    broken = tmp_path / "broken.html"
    broken.write_text(page_file.read_text().replace(*damage))
    with pytest.raises(InputError, match=message):
        payload.read(broken)


def test_a_score_that_cannot_be_placed_is_not_available(tmp_path):
    unplaced = table([[Number(6.0), Number(math.nan)]], Number(None))
    text = write(tmp_path / "index.html", [], tables=[unplaced]).read_text()
    body = text[text.index("<main>") :]
    assert body.count("n/a</td>") == 1
    assert '<span class="placed">n/a</span>' in body


def test_names_cannot_inject_markup(tmp_path, entries):
    name = "</script><script>alert(1)</script>"
    clip = GalleryEntry(**(vars(entries[1]) | {"clip_id": name, "speaker": "<b>"}))
    text = write(tmp_path / "index.html", [clip], title=name).read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert payload.read(tmp_path / "index.html")[0].clip_id == name


def test_what_changed_is_told_without_clips(visit, tmp_path):
    changed = TextTable(
        "Parameters",
        "1 differs.",
        ["Parameter", "a", "b"],
        [
            [Cell("steps"), Cell("60"), Cell("90", tone="good")],
            [Cell("seed"), Cell("0"), Cell("1")],
        ],
    )
    out = write(tmp_path / "index.html", [], changes=[changed], tables=[], plots=[])
    assert "<video" not in out.read_text()
    page = visit(out)
    page.get_by_role("button", name="Parameter").click()
    assert page.locator("tbody th").all_inner_texts() == ["steps", "seed"]
    page.get_by_role("button", name="Parameter").click()
    assert page.locator("tbody th").all_inner_texts() == ["seed", "steps"]


def test_videos_of_all_clips_are_written_and_linked(tmp_path, entries):
    out = tmp_path / "page" / "index.html"
    gallery.write_gallery(out, page_of(entries[:2]), videos=tmp_path / "videos", panel_px=64)
    names = sorted(path.name for path in (tmp_path / "videos").iterdir())
    assert names == ["000-talk-0.mp4", "001-talk-1.mp4"]
    assert '"video":"../videos/001-talk-1.mp4"' in out.read_text()


def test_a_row_that_does_not_fit_its_columns_is_refused(tmp_path):
    with pytest.raises(ValueError, match="2 columns but 1 values"):
        write(tmp_path / "index.html", [], tables=[table([[Number(1.0)]])])


def test_sound_longer_than_the_motion_is_cut(tmp_path, portrait):
    motion = np.repeat(portrait[None], 25, axis=0)
    entry = GalleryEntry("clip", "speaker", {"Real": motion}, np.zeros(16_000 * 9, np.float32))
    (found,) = payload.read(write(tmp_path / "index.html", [entry]))
    assert len(found.waveform) == 16_000


def test_motion_far_outside_the_picture_is_cut_off_where_it_is_not_seen(portrait):
    far = np.repeat(portrait[None], 3, axis=0)
    far[1] *= 1000
    found = payload.unpack(payload.pack(far), 3)
    assert found[1].max() == pytest.approx(4.0, abs=1e-3)
    assert np.abs(found[2] - far[2]).max() < 1e-3


def test_a_page_that_fails_leaves_the_old_one(tmp_path, portrait):
    out = write(tmp_path / "index.html", [])
    before = out.read_text()
    broken = GalleryEntry("clip", "speaker", {"Real": portrait[None] * np.nan}, np.zeros(640, "f4"))
    with pytest.raises(ValueError, match="finite"):
        write(out, [broken])
    assert out.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_motions_of_several_lengths_are_refused(tmp_path, portrait):
    motions = {"Real": portrait[None], "Made": np.repeat(portrait[None], 2, axis=0)}
    with pytest.raises(ValueError, match="of one T"):
        write(tmp_path / "a.html", [GalleryEntry("clip", "s", motions, np.zeros(640, "f4"))])


def test_levels_are_named_by_rate_and_window():
    assert gallery.level_label(2) == "Level 2 · 6.25 Hz · 0.8 s windows"
