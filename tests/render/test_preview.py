from pathlib import Path

import av
import numpy as np
import pytest
import skimage.data
from typer.testing import CliRunner

from mssync import records
from mssync.cli import app
from mssync.errors import ClipRejectedError, InputError
from mssync.ledger import DECISIONS, Decision, write_decisions
from mssync.media import decode, ffmpeg
from mssync.media.decode import Frame
from mssync.media.sound import read_sound
from mssync.media.store import MediaStore
from mssync.params import load
from mssync.render import curves, overlay, preview
from mssync.render.preview import Findings
from mssync.stages import _preview

TICKS = 40
FLASH_S = 1.0
MAX_PIXELS = 9_000_000


@pytest.fixture
def video(tmp_path):
    """A grey clip that is white, and clicks, one second after its start."""

    def make(name="clip.mp4", fps=25, width=160, height=120, seconds=TICKS / 25):
        waveform = np.zeros(round(seconds * 16_000), np.float32)
        waveform[round(FLASH_S * 16_000) :][:80] = 0.9
        whites = (abs(k / fps - FLASH_S) < 1e-9 for k in range(round(fps * seconds)))
        pictures = (np.full((height, width, 3), 255 if white else 90, np.uint8) for white in whites)
        ffmpeg.encode(pictures, tmp_path / name, fps_hz=fps, waveform=waveform)
        return tmp_path / name

    return make


def landmark_row(ticks=TICKS, **changed):
    """A face around (80, 60): point k is at (50 + k mod 17 * 4, 40 + k // 17 * 10)."""
    number = np.arange(68)
    points = np.stack([50 + number % 17 * 4, 40 + number // 17 * 10], axis=1).astype(np.float32)
    return {
        "frames": float(ticks),
        "landmarks_TPD": np.tile(points, (ticks, 1, 1)).ravel(),
        "confidence_T": np.full(ticks, 0.9, np.float32),
        "interpolated_T": np.zeros(ticks, bool),
        "pose_TA": np.zeros(ticks * 3, np.float32),
        "mouth_T": np.full(ticks, 0.2, np.float32),
        "shot_T": np.zeros(ticks, np.int16),
    } | changed


def audio_row(ticks=TICKS):
    return {
        "frames": float(ticks),
        "loudness_A": np.full(ticks * 4, -30, np.float32),
        "speech_A": np.ones(ticks * 4, np.float32),
    }


def findings(landmarks=None, audio=None, **decisions):
    return Findings("talk/one.mp4", landmarks, audio, decisions)


def pages(media, found):
    return list(preview.compose(media, found, decode.read_clock(media), max_pixels=MAX_PIXELS))


def has_colour(page, colour):
    return bool((page == colour).all(axis=-1).any())


def test_a_preview_has_a_frame_a_tick_and_sound_of_the_same_length(video, tmp_path):
    out = tmp_path / "new" / "out.mp4"
    found = findings(landmark_row(), audio_row())
    preview.write_preview(out, video(), found, max_pixels=MAX_PIXELS)
    assert [path.name for path in out.parent.iterdir()] == ["out.mp4"]
    with av.open(str(out)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert (picture.codec_context.name, picture.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert sound.codec_context.name == "aac"
        assert picture.average_rate == 25
        assert sum(1 for _ in container.decode(picture)) == TICKS
        assert float(sound.duration * sound.time_base) == pytest.approx(TICKS / 25, abs=0.02)


@pytest.mark.parametrize("fps", [20, 25, 30, 50])
def test_a_flash_and_a_click_stay_together(video, tmp_path, fps):
    out, media = tmp_path / "out.mp4", video(fps=fps, seconds=1.6)
    clock = decode.read_clock(media)
    preview.write_preview(out, media, findings(), max_pixels=MAX_PIXELS)
    clock = decode.read_clock(out)
    light = [frame.picture_HWC[100, 100].mean() for frame in decode.frames(
        out, clock, max_fps_hz=30, max_side_px=1280)]  # fmt: skip
    loud = np.abs(read_sound(out, clock).waveform_N)
    flash_s = int(np.argmax(np.array(light) > 200)) / 25
    click_s = int(np.argmax(loud > 0.3)) / 16_000
    assert max(light) > 200
    assert flash_s == pytest.approx(FLASH_S, abs=0.02)
    assert flash_s - click_s == pytest.approx(0, abs=0.02)


def test_a_tick_shows_what_is_presented_then_or_what_is_nearer_within_half_a_tick():
    def shown(*times_s, ticks):
        picture = np.zeros((2, 2, 3), np.uint8)
        frames = iter([Frame(time_s, picture, 1.0, False) for time_s in times_s])
        return [frame.time_s for frame in preview.at_ticks(frames, ticks)]

    assert shown(0.0, 0.04, 0.08, ticks=3) == [0.0, 0.04, 0.08]
    assert shown(0.0, 0.033, 0.067, 0.1, ticks=3) == [0.0, 0.033, 0.067]
    assert shown(0.0, 0.05, ticks=2) == [0.0, 0.05]  # 0.01 s early, the other would be 0.04 s late
    assert shown(0.0, 0.15, ticks=5) == [0.0, 0.0, 0.0, 0.0, 0.15]
    assert shown(0.0, ticks=2) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("width", "height", "shown_width", "shown_height"),
    [(160, 120, 640, 480), (1920, 1080, 1280, 720), (96, 192, 240, 480), (2000, 200, 1280, 128)],
)
def test_points_are_drawn_where_they_are_in_the_full_size_picture(
    video, width, height, shown_width, shown_height
):
    media = video(width=width, height=height, seconds=0.2)
    points = np.full((5, 68, 2), [width * 0.25, height * 0.75], np.float32)
    row = landmark_row(5, landmarks_TPD=points.ravel())
    plain = pages(media, findings(landmark_row(5, landmarks_TPD=points.ravel() * np.nan)))[2]
    page = pages(media, findings(row))[2]
    changed = np.argwhere((page != plain).any(axis=-1))
    x, y = changed.mean(axis=0)[::-1]
    left = (page.shape[1] - shown_width) / 2
    grey = np.argwhere((np.abs(plain[:, plain.shape[1] // 2].astype(int) - 90) < 4).all(axis=-1))
    top = grey.min()
    assert x == pytest.approx(left + 0.25 * shown_width, abs=1)
    assert y == pytest.approx(top + 0.75 * shown_height, abs=1)
    assert tuple(page[round(y), round(x)]) == overlay.confidence_colour(0.9)
    assert not {side % 2 for side in page.shape[:2]} - {0}


def test_confidence_runs_from_red_over_yellow_to_green():
    red, yellow, green = (overlay.confidence_colour(share) for share in (0.0, 0.5, 1.0))
    assert red[0] > 200 > 100 > red[1]
    assert min(yellow[:2]) > 200
    assert green[1] > 200 > 100 > green[0]
    assert overlay.confidence_colour(float("nan")) == red


def test_interpolated_ticks_have_hollow_points_of_another_colour_and_are_shaded():
    size, centre = (120, 120, 3), np.full((68, 2), 60.5, np.float32)
    dot, ring = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    overlay.draw_points(dot, centre, curves.KEPT)
    overlay.draw_points(ring, centre + 0.01, overlay.LOST, hollow=True)
    assert tuple(dot[60, 60]) == curves.KEPT
    assert has_colour(ring, overlay.LOST)


def test_shots_gaps_and_the_usable_stretch_are_marked(video):
    media = video()
    lost, shot = np.zeros(TICKS, bool), np.zeros(TICKS, np.int16)
    lost[4:8], shot[20:] = True, 1
    usable = Decision("x", scores={"usable_start_frames": 20.0, "usable_frames": 20.0})
    plain = pages(media, findings(landmark_row(), audio_row()))
    marked = pages(
        media, findings(landmark_row(interpolated_T=lost, shot_T=shot), audio_row(),
                        build_dataset=usable),
    )  # fmt: skip
    for colour in (curves.SHADED, curves.SHOT, overlay.LOST):
        assert not has_colour(plain[5], colour)
        assert has_colour(marked[5], colour)
    bar = np.argwhere((marked[5] == curves.KEPT).all(axis=-1))[:, 1]
    left, right = curves.LABELS_PX, marked[5].shape[1] - 10
    wide = bar[bar > (left + right) / 2 - 2]
    assert wide.min() == pytest.approx((left + right) / 2, abs=2)
    assert wide.max() == pytest.approx(right, abs=2)


def test_the_cursor_moves_with_time(video):
    first, *_, last = pages(video(), findings(landmark_row(), audio_row()))

    def cursor(page):
        white = (page[-60:] == 255).all(axis=-1).sum(axis=0)
        return int(np.argmax(white))

    assert cursor(first) == pytest.approx(curves.LABELS_PX, abs=10)
    assert cursor(last) == pytest.approx(630, abs=10)


def test_a_rejected_clip_shows_its_picture_its_sound_and_why(video):
    media = video()
    no_face = Decision("x", "no_face", "no face in any of 40 frames")
    told = pages(media, findings(None, audio_row(), extract_landmarks=no_face))
    silent = pages(media, findings(None, None, extract_landmarks=no_face))
    assert len(told) == TICKS
    assert has_colour(told[0], curves.REJECTED)
    assert (told[0][-150:] != silent[0][-150:]).any()
    assert (told[0][:-150] == silent[0][:-150]).all()


def test_awkward_names_and_values_are_drawn(video):
    row = landmark_row(
        mouth_T=np.full(TICKS, np.nan, np.float32), pose_TA=np.full(TICKS * 3, np.nan, np.float32)
    )
    found = Findings("long " * 60 + "\udcff\n\x00中", row, audio_row(), {"build_dataset": None})
    assert len(pages(video(), found)) == TICKS


def test_findings_of_another_length_say_what_to_run(video):
    with pytest.raises(InputError, match=r"40 ticks .* landmarks 39: run extract-landmarks again"):
        pages(video(), findings(landmark_row(39)))


@pytest.fixture
def show(tmp_path, root, monkeypatch):
    """Preview a clip in a workspace of three clips, of which `talk/one.mp4` has findings."""
    monkeypatch.chdir(tmp_path)
    store = MediaStore(tmp_path / "store")

    def run(clip, media=None, out=None, ids=("talk/one.mp4", "talk/two.mp4", "other.mp4")):
        sha256 = ""
        if media:
            copy = store.partial("copy")
            copy.write_bytes(media.read_bytes())
            sha256 = store.adopt(copy)
        blank = dict.fromkeys(("speaker_id", "split", "language", "licence", "tags"), "")
        fixed = {"sha256": sha256, "bytes": 1, "av_offset_ms": float("nan")}
        rows = [blank | fixed | {"clip_id": name} for name in ids]
        records.write(tmp_path / "data" / "manifest.parquet", rows, records.MANIFEST)
        for folder, schema, row in (
            ("landmarks", records.LANDMARKS, landmark_row()),
            ("audio", records.AUDIO, audio_row()),
        ):
            identity = {"clip_id": "talk/one.mp4", "sha256": sha256, "content": "0"}
            empty = {name: 0.0 for name in schema.names if name not in row}
            arrays = {name: [] for name in empty if name.endswith(("_T", "_AM", "_AC"))}
            records.write(
                tmp_path / "data" / folder / "part-0.parquet",
                [empty | arrays | row | identity],
                schema,
            )
        for stage in ("extract_landmarks", "extract_audio"):
            write_decisions(
                tmp_path / "ledger" / stage / DECISIONS, [Decision(name) for name in ids], []
            )
        return _preview.run(
            clip,
            out,
            manifest=tmp_path / "data" / "manifest.parquet",
            landmarks=tmp_path / "data" / "landmarks",
            audio=tmp_path / "data" / "audio",
            ledger=tmp_path / "ledger",
            params=load(root / "params.test.yaml"),
            store=store,
        )

    return run


@pytest.mark.parametrize("name", ["talk/one.mp4", "one"])
def test_a_clip_is_found_by_its_id_or_a_part_of_it(show, video, name):
    written = show(name, video())
    assert written == Path("previews/talk_one.mp4")
    clock = decode.read_clock(written)
    first = next(decode.frames(written, clock, max_fps_hz=30, max_side_px=1280)).picture_HWC
    assert clock.frames == TICKS
    green = (first[..., 1] > 180) & (first[..., 0] < 120)
    assert green.sum() > 100


def test_an_id_that_is_a_part_of_another_is_no_doubt(show, video):
    assert show("one", video(), ids=("one", "one-more")).name == "one.mp4"


def test_a_name_that_may_mean_several_clips_lists_them(show):
    with pytest.raises(InputError, match=r"part of 2 clip ids .*: talk/one\.mp4, talk/two\.mp4\."):
        show("talk")


def test_an_unknown_clip_says_what_may_be_named(show, tmp_path):
    with pytest.raises(InputError, match=r"such as talk/one\.mp4, .* media file, or a clip id"):
        show("nobody")
    lost = Decision("gone.mp4", "gone", "the page is gone (404)")
    write_decisions(tmp_path / "ledger" / "download_videos" / DECISIONS, [lost], [])
    with pytest.raises(InputError, match=r"download_videos rejected it: gone: the page is gone"):
        show("gone.mp4")


def test_media_that_are_gone_and_a_wrong_target_are_told(show, video, tmp_path):
    with pytest.raises(InputError, match=r"gone from the store .* make retry"):
        show("other.mp4")
    media = video()
    with pytest.raises(InputError, match=r"ends in \.mp4"):
        show("one", media, out=tmp_path / "out.gif")
    with pytest.raises(InputError, match="is the clip itself"):
        show(str(media), out=media)


def test_a_media_file_is_extracted_on_the_spot(show, tmp_path):
    portrait = skimage.data.astronaut()[:256, 100:356]
    media, out = tmp_path / "face.mp4", tmp_path / "out.mp4"
    hum = 0.3 * np.sin(np.arange(16_000) / 20).astype(np.float32)
    ffmpeg.encode([portrait] * 25, media, fps_hz=25, waveform=hum)
    assert show(str(media), out=out) == out
    clock = decode.read_clock(out)
    page = next(decode.frames(out, clock, max_fps_hz=30, max_side_px=1280)).picture_HWC
    original = page[:, :, 1].astype(int) - page[:, :, 0]
    assert clock.frames == 25
    assert (original > 60).sum() > 500  # green points


def test_a_file_without_a_face_still_gives_a_preview(show, video, tmp_path):
    assert decode.read_clock(show(str(video()), out=tmp_path / "out.mp4")).frames == TICKS


def test_a_file_that_is_no_video_is_refused(show, tmp_path):
    (tmp_path / "page.mp4").write_text("<!doctype html><html>not found</html>")
    with pytest.raises(ClipRejectedError, match=r"page\.mp4: this is no video, it is a web page"):
        show(str(tmp_path / "page.mp4"))
    assert not (tmp_path / "previews").exists()


@pytest.mark.parametrize(
    ("clip", "out", "told"),
    [
        ("folder", None, "folder is a folder: give one media file in it"),
        ("clip.mp4", "folder", "folder is a folder: name a file in it"),
        ("clip.mp4", "file/out.mp4", "the folder file cannot be made: File exists"),
    ],
)
def test_folders_are_told_before_anything_is_extracted(
    show, tmp_path, monkeypatch, clip, out, told
):
    (tmp_path / "folder").mkdir()
    for name in ("clip.mp4", "file"):
        (tmp_path / name).write_text("no video")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=told):
        show(clip, out=out and Path(out))


def test_the_command_without_a_chain_says_what_it_takes(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["preview", "nobody", "--params", str(root / "params.yaml")])
    assert isinstance(result.exception, InputError)
    assert "'nobody' is no file, and data/manifest.parquet" in str(result.exception)
