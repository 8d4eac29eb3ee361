import math
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mssync import records, versions
from mssync.data import dataset
from mssync.data.splits import SPLITS, split_speakers
from mssync.errors import InputError, StageFailedError
from mssync.landmarks import crop
from mssync.ledger import DECISIONS, read_decisions, write_decisions
from mssync.params import BuildDataset
from mssync.parts import read_parts
from mssync.records import AUDIO, AUDIO_SCORES, CLIPS, LANDMARKS
from mssync.stages import build_dataset
from tests.handmade import FRAMES, write_inputs


@pytest.fixture
def build(build_again, tmp_path):
    """Build a dataset of handmade clips: (clips by split, decisions by clip)."""

    def run(clips, *, pinned=None, **changes):
        write_inputs(tmp_path, clips, pinned=pinned or {})
        return build_again(**changes)

    return run


@pytest.fixture
def build_again(tmp_path, tiny):
    """The same of what lies there."""

    def run(**changes):
        params = BuildDataset(**{**tiny.build_dataset.model_dump(), **changes})
        build_dataset.run(
            tmp_path / "manifest.parquet",
            tmp_path / "data" / "landmarks",
            tmp_path / "data" / "audio",
            tmp_path / "ledger",
            tmp_path / "dataset",
            tmp_path / "card",
            params,
        )
        decisions = read_decisions(tmp_path / "ledger" / "build_dataset" / DECISIONS)
        return dataset.load_clips(tmp_path / "dataset"), {d.clip_id: d for d in decisions}

    return run


PEOPLE = {f"p{i}/a": {} for i in range(8)}


def row_of(folder, clip, schema):
    if schema is CLIPS:
        rows = dataset.load(folder / "dataset").rows
    else:
        name = "landmarks" if schema is LANDMARKS else "audio"
        rows = read_parts(folder / "data" / name, schema)
    return next(row for row in rows if row["clip_id"] == clip)


def crop_of(row):
    return np.array([row[f"crop_{name}_px"] for name in ("left", "top", "side")])


def the_clip(clips, clip_id):
    return next(c for split in clips.values() for c in split if c.clip_id == clip_id)


def test_a_clip_is_cut_to_its_stretch_and_its_sound_with_it(build, tmp_path):
    clips, decisions = build({**PEOPLE, "cut/a": {"cuts": [13], "lost": [13, 14, 40]}})
    assert decisions["cut/a"].kept
    assert decisions["cut/a"].scores["usable_start_frames"] == 15
    assert decisions["cut/a"].scores["usable_frames"] == FRAMES - 15
    row, sound = row_of(tmp_path, "cut/a", CLIPS), row_of(tmp_path, "cut/a", AUDIO)
    assert (row["first_frame"], row["frames"]) == (15, FRAMES - 15)
    clip = the_clip(clips, "cut/a")
    log_mel = records.shaped(sound["log_mel_AM"], FRAMES * 4, -1)
    np.testing.assert_array_equal(clip.audio_AM, log_mel[15 * 4 :])
    assert clip.motion_TPD.shape == (FRAMES - 15, 68, 2)


def test_an_offset_of_the_list_moves_the_sound_and_is_recorded(build, tmp_path):
    clips, decisions = build({**PEOPLE, "late/a": {"listed_ms": 98.0}})
    assert decisions["late/a"].scores["av_listed_ms"] == pytest.approx(98)
    row, sound = row_of(tmp_path, "late/a", CLIPS), row_of(tmp_path, "late/a", AUDIO)
    assert (row["audio_shift_rows"], row["first_frame"], row["frames"]) == (10, 0, FRAMES - 3)
    log_mel = records.shaped(sound["log_mel_AM"], FRAMES * 4, -1)
    expected = log_mel[10 : 10 + 4 * (FRAMES - 3)]
    np.testing.assert_array_equal(the_clip(clips, "late/a").audio_AM, expected)


def test_no_frame_of_another_shot_leaks_into_crop_or_smoothing(build, tmp_path):
    clips, _ = build({**PEOPLE, "cut/a": {"cuts": [13]}}, smoothing_frames=5)
    square = crop_of(row_of(tmp_path, "cut/a", CLIPS))
    points = row_of(tmp_path, "cut/a", LANDMARKS)["landmarks_TPD"].reshape(-1, 68, 2)[13:]
    np.testing.assert_allclose(square, crop.square_crop(points, 1.3), rtol=1e-6)
    motion = the_clip(clips, "cut/a").motion_TPD * square[2] + square[:2]
    np.testing.assert_allclose(motion, crop.smooth(points, 5), atol=1e-2)


def test_rejected_clips_have_every_score_there_is(build):
    _, decisions = build({**PEOPLE, "bad/a": {"loudness_db": -120, "lag_s": 0.12}})
    scores = decisions["bad/a"].scores
    assert not decisions["bad/a"].kept
    # 60 frames are too short to tell a drift
    nothing = [name for name, value in scores.items() if math.isnan(value)]
    assert nothing == ["av_drift_ms_per_s", "av_listed_ms"]  # the list gives no offset
    assert scores["mouth_loudness_lag_s"] == pytest.approx(0.12)
    assert 0 <= scores["av_confidence"] < 0.9
    assert scores["mouth_loudness_correlation"] > 0.8


def test_what_an_extraction_stage_says_comes_first_and_its_scores_are_nan(build, tmp_path):
    clips = {**PEOPLE, "bad/a": {"extraction": "no_audio", "interocular_px": 1}}
    _, decisions = build(clips)
    assert decisions["bad/a"].reason == "no_audio"
    assert decisions["bad/a"].scores["interocular_px"] == 1
    assert decisions["bad/a"].scores["usable_frames"] == FRAMES
    for name in ("loudness_db", "mouth_loudness_correlation"):
        assert math.isnan(decisions["bad/a"].scores[name])


@pytest.mark.parametrize("lost", ["data/audio", "data/landmarks", "ledger/extract_audio"])
def test_inputs_of_different_runs_are_refused(build, build_again, tmp_path, lost):
    build(PEOPLE)
    for path in (tmp_path / lost).glob("*.parquet"):
        if path.name == DECISIONS:
            write_decisions(path, read_decisions(path)[1:], list(AUDIO_SCORES))
        else:
            path.unlink()
    with pytest.raises(InputError, match=r"p0/a .*decided.*run extract-landmarks"):
        build_again()


def test_a_threshold_changes_without_extracting_again(build):
    _, strict = build({**PEOPLE, "small/a": {"interocular_px": 15}})
    _, lenient = build({**PEOPLE, "small/a": {"interocular_px": 15}}, min_interocular_px=10.0)
    assert (strict["small/a"].kept, lenient["small/a"].kept) == (False, True)


def test_no_speaker_is_in_two_splits(build):
    clips, _ = build({f"p{i}/{j}": {} for i in range(8) for j in range(3)})
    speakers = [{clip.speaker_id for clip in split} for split in clips.values()]
    assert all(speakers)
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 8


def test_a_pinned_speaker_stays_where_the_list_put_them(build):
    clips, _ = build(PEOPLE, pinned={"p3": "test", "p4": "val"})
    assert "p3" in {clip.speaker_id for clip in clips["test"]}
    assert "p4" in {clip.speaker_id for clip in clips["val"]}


def test_a_pin_holds_though_the_clip_that_carries_it_is_rejected(build):
    clips, _ = build({**PEOPLE, "p0/b": {"frames": 43}}, pinned={"p0": "val"})
    assert "p0" in {clip.speaker_id for clip in clips["val"]}


def test_motion_lies_in_the_crop_and_audio_has_four_rows_a_frame(build):
    clips, _ = build(PEOPLE)
    for clip in clips["train"]:
        assert clip.motion_TPD.shape == (FRAMES, 68, 2)
        assert clip.audio_AM.shape == (FRAMES * 4, 26)
        assert 0.05 < clip.motion_TPD.min() < clip.motion_TPD.max() < 0.95


def test_the_same_inputs_give_the_same_revision_and_other_values_another(build, tmp_path):
    build(PEOPLE)
    first = dataset.load_metadata(tmp_path / "dataset")["revision"]
    build(PEOPLE)
    assert dataset.load_metadata(tmp_path / "dataset")["revision"] == first
    build(PEOPLE, smoothing_frames=5)
    assert dataset.load_metadata(tmp_path / "dataset")["revision"] != first


def test_an_empty_split_is_an_error_that_names_the_salt_and_one_that_would_do(build):
    with pytest.raises(StageFailedError, match=r"salt 'x' no speaker of 3 falls into .* salt '\d"):
        build({"p0/a": {}, "p1/a": {}, "p2/a": {}}, salt="x")


def test_the_salt_that_is_named_fills_every_split(build):
    few = {"p0/a": {}, "p1/a": {}, "p2/a": {}}
    with pytest.raises(StageFailedError) as failed:
        build(few, salt="x")
    salt = str(failed.value).split("the salt '")[2].split("'")[0]
    clips, _ = build(few, salt=salt)
    assert all(clips.values())


def test_one_speaker_cannot_fill_three_splits_with_any_salt(build):
    with pytest.raises(StageFailedError, match=r"nor with 200 others.*pin speakers"):
        build({"p0/a": {}})


def test_nothing_left_is_a_failure_with_the_first_reason(build):
    with pytest.raises(StageFailedError, match=r"no clip is left of 1.*p0/a: frames is 43"):
        build({"p0/a": {"frames": 43}})


def test_the_card_tells_what_was_left_out(build, tmp_path):
    build({**PEOPLE, "bad/a": {"frames": 43}})
    told = (tmp_path / "card" / "card.md").read_text()
    assert "| build_dataset | 9 | 8 | too_short 1 |" in told
    assert "| train | 6 | 6 | 0.24 |" in told


def test_speakers_who_join_or_leave_move_nobody():
    names = [f"speaker {i}" for i in range(60)]
    ratios = {"salt": "0", "val_ratio": 0.2, "test_ratio": 0.2}
    few = split_speakers(dict.fromkeys(names[:40], ""), **ratios)
    many = split_speakers(dict.fromkeys(names, ""), **ratios)
    assert few.items() <= many.items()
    shares = {split: list(many.values()).count(split) for split in SPLITS}
    assert 25 < shares["train"] < 45
    assert min(shares["val"], shares["test"]) > 4


def test_another_salt_draws_other_splits():
    names = dict.fromkeys([f"speaker {i}" for i in range(60)], "")
    first, other = (
        split_speakers(names, salt=salt, val_ratio=0.2, test_ratio=0.2) for salt in ("0", "1")
    )
    assert first != other


def test_smoothing_delays_nothing():
    """A chirp is where it was, and a pulse stays symmetric."""
    ticks = np.arange(200)
    chirp = np.sin(2 * np.pi * (0.01 + 0.0003 * ticks) * ticks)
    pulse = np.exp(-(((ticks - 100) / 2) ** 2))
    motion = np.zeros((200, 68, 2), np.float32)
    motion[:, :, 0], motion[:, :, 1] = chirp[:, None], pulse[:, None]
    for width in (3, 5, 9):
        smoothed = crop.smooth(motion, width)[:, 30]
        lags = range(-10, 11)
        products = [np.dot(chirp[20:180], smoothed[20 + lag : 180 + lag, 0]) for lag in lags]
        assert lags[int(np.argmax(products))] == 0
        np.testing.assert_allclose(smoothed[60:140, 1], smoothed[60:141, 1][:0:-1], atol=1e-6)
        assert smoothed[100, 1] < pulse[100]


def test_the_revision_follows_all_that_a_model_sees_and_nothing_else(build, tmp_path):
    build(PEOPLE)
    built = dataset.load(tmp_path / "dataset")

    def revision(smoothing_frames=3, **change):
        rows = [row | change for row in built.rows]
        return versions.dataset_revision(
            map(versions.clip_digest, rows), [], smoothing_frames=smoothing_frames
        )

    assert revision() == revision(landmarks_part="another") == revision(language="xx")
    changes = [{"first_frame": 1}, {"audio_content": "0"}, {"split": "val"}, {"crop_side_px": 1.0}]
    others = {revision(**change) for change in [*changes, {"smoothing_frames": 5}]}
    assert len(others | {revision()}) == len(changes) + 2
    assert built.sources()["p0/a"] == ("p0/a", 0)


def test_no_array_is_copied_into_the_dataset(build, tmp_path):
    build(PEOPLE)
    files = sorted(path.name for path in (tmp_path / "dataset").iterdir())
    assert [name.split("-")[0] for name in files] == ["clips", "dataset.json"]
    parts = sum(path.stat().st_size for path in (tmp_path / "data").glob("*/part-*"))
    assert sum(path.stat().st_size for path in (tmp_path / "dataset").iterdir()) < parts / 20


def test_only_new_clips_are_measured(build, build_again, tmp_path, caplog):
    caplog.set_level("INFO")
    build(PEOPLE)
    build({**PEOPLE, "new/a": {}})
    build_again(min_interocular_px=10.0)
    assert re.findall(r"measuring (\d+) of (\d+)", caplog.text) == [("8", "8"), ("1", "9")]
    build_again(max_gap_frames=9)
    assert caplog.text.count("measuring 9 of 9") == 1


def test_what_was_measured_is_made_again_where_it_is_lost(build, build_again, tmp_path):
    before, _ = build(PEOPLE)
    shutil.rmtree(tmp_path / "dataset.evidence")
    after, _ = build_again()
    assert [c.clip_id for c in before["train"]] == [c.clip_id for c in after["train"]]


def test_parts_that_changed_under_a_dataset_are_refused(build, tmp_path):
    build(PEOPLE)
    part = next((tmp_path / "data" / "landmarks").glob("part-*"))
    rows = records.read(part, LANDMARKS)
    records.write(part, [row | {"content": "other"} for row in rows], LANDMARKS)
    with pytest.raises(InputError, match="run build-dataset again"):
        dataset.load_clips(tmp_path / "dataset")
    part.unlink()
    with pytest.raises(InputError, match="does not exist"):
        dataset.load_clips(tmp_path / "dataset")


# Drawn by the salt of the tests: p0 is trained on, p2 and p3 are held out.
REUPLOAD = {"p2/again": {"footage": "p0/a"}}


def test_the_same_footage_does_not_cross_splits(build, caplog):
    clips, decisions = build({**PEOPLE, **REUPLOAD})
    left_out = {clip for clip, decision in decisions.items() if not decision.kept}
    assert left_out == {"p0/a"}  # of two newcomers the one that would be trained on
    assert decisions["p0/a"].reason == "leak_bridge"
    assert "p0/a and p2/again share" in decisions["p0/a"].detail
    assert "p0/a is left out" in caplog.text
    assert "p2/again" in {clip.clip_id for clip in clips["val"]}


def test_a_newcomer_never_displaces_a_clip_of_the_version_before(build):
    build(PEOPLE)
    _, decisions = build({**PEOPLE, **REUPLOAD})
    assert decisions["p0/a"].kept
    assert decisions["p2/again"].reason == "leak_bridge"
    assert "the other clip is in train" in decisions["p2/again"].detail


def test_the_same_footage_within_a_split_is_kept(build):
    _, decisions = build({**PEOPLE, "p1/again": {"footage": "p0/a"}})
    assert all(decision.kept for decision in decisions.values())


def test_old_clips_that_leak_stop_the_stage_and_are_listed(build, tmp_path):
    """As when a version was made before fingerprints were, or by another limit."""
    build({**PEOPLE, "p2/again": {}})
    before = dataset.load_metadata(tmp_path / "dataset")
    with pytest.raises(StageFailedError, match=r"1 pairs .*\n  p0/a and p2/again .*train and val"):
        build({**PEOPLE, **REUPLOAD})
    assert dataset.load_metadata(tmp_path / "dataset") == before


def test_a_speaker_who_would_change_sides_stops_the_stage(build, tmp_path):
    build(PEOPLE)
    with pytest.raises(StageFailedError, match=r"p0 was in train and would now be in val.*delete"):
        build(PEOPLE, pinned={"p0": "val"})
    shutil.rmtree(tmp_path / "dataset")
    build(PEOPLE, pinned={"p0": "val"})


def test_a_split_that_quarantine_empties_is_an_error(build):
    everything = {f"{p}/a": {} for p in ("p0", "p1", "p3")} | {"p2/a": {"footage": "p0/a"}}
    with pytest.raises(StageFailedError, match=r"every clip of val shows footage of another split"):
        build({**everything, "p1/b": {"footage": "p0/a"}, "p4/b": {"footage": "p0/a"}})


def test_clips_are_compared_once(build, build_again, tmp_path):
    build({**PEOPLE, **REUPLOAD})
    compared = tmp_path / "dataset.evidence" / "compared.parquet"
    before = compared.stat().st_mtime_ns
    _, decisions = build_again()
    assert decisions["p0/a"].reason == "leak_bridge"
    assert compared.stat().st_mtime_ns == before


def test_a_dataset_of_an_older_form_is_replaced(build, tmp_path, caplog):
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / dataset.METADATA).write_text('{"revision": "old"}')
    for name in ("clips.parquet", "card.md"):
        (folder / name).write_text("old")
    with pytest.raises(InputError, match="older version of mssync: run build-dataset again"):
        dataset.load(folder)
    build(PEOPLE)
    assert "a new line of versions begins" in caplog.text
    assert len(list(folder.iterdir())) == 2
    assert len(dataset.load(folder).rows) == len(PEOPLE)


def test_the_funnel_of_other_thresholds_keeps_what_leaks_out(build, tmp_path, root):
    build({**PEOPLE, **REUPLOAD})
    found = subprocess.run(
        [sys.executable, "-m", "mssync", "funnel", "--set", "min_interocular_px=10",
         "--params", root / "params.test.yaml"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "leak_bridge 1" in found.stdout
    assert "No clip is decided otherwise" in found.stdout
