import math

import numpy as np
import pytest

from mssync import records, versions
from mssync.data import dataset
from mssync.data.splits import split_speakers
from mssync.errors import InputError, StageFailedError
from mssync.landmarks import tracks
from mssync.ledger import DECISIONS, read_decisions, write_decisions
from mssync.params import BuildDataset
from mssync.parts import read_parts
from mssync.records import AUDIO, AUDIO_SCORES, CLIPS, LANDMARKS
from mssync.selection.evidence import verdicts
from mssync.stages import build_dataset
from tests.handmade import FRAMES, write_inputs


@pytest.fixture
def build(tmp_path, tiny):
    """Build a dataset of handmade clips: (clips by split, decisions by clip)."""

    def run(clips, *, seed=0, pinned=None, **changes):
        write_inputs(tmp_path, clips, pinned=pinned or {})
        params = BuildDataset(**{**tiny.build_dataset.model_dump(), **changes})
        build_dataset.run(
            tmp_path / "manifest.parquet",
            tmp_path / "data" / "landmarks",
            tmp_path / "data" / "audio",
            tmp_path / "ledger",
            tmp_path / "dataset",
            params,
            seed=seed,
        )
        decisions = read_decisions(tmp_path / "ledger" / "build_dataset" / DECISIONS)
        return dataset.load_clips(tmp_path / "dataset"), {d.clip_id: d for d in decisions}

    return run


PEOPLE = {f"p{i}/a": {} for i in range(8)}


def row_of(folder, clip, schema):
    if schema is CLIPS:
        rows = records.read(folder / "dataset" / dataset.CLIPS, CLIPS)
    else:
        name = "landmarks" if schema is LANDMARKS else "audio"
        rows = read_parts(folder / "data" / name, schema)
    return next(row for row in rows if row["clip_id"] == clip)


def test_a_clip_is_cut_to_its_stretch_and_everything_with_it(build, tmp_path):
    clips, decisions = build({**PEOPLE, "cut/a": {"cuts": [13], "lost": [13, 14, 40]}})
    assert decisions["cut/a"].kept
    assert decisions["cut/a"].scores["usable_start_frames"] == 15
    assert decisions["cut/a"].scores["usable_frames"] == FRAMES - 15
    row = row_of(tmp_path, "cut/a", CLIPS)
    found, sound = row_of(tmp_path, "cut/a", LANDMARKS), row_of(tmp_path, "cut/a", AUDIO)
    assert (row["first_frame"], row["frames"]) == (15, FRAMES - 15)
    np.testing.assert_array_equal(row["confidence_T"], found["confidence_T"][15:])
    np.testing.assert_array_equal(row["interpolated_T"], found["interpolated_T"][15:])
    assert row["interpolated_T"].nonzero()[0].tolist() == [25]
    log_mel = records.shaped(sound["log_mel_AM"], FRAMES * 4, -1)
    np.testing.assert_array_equal(row["audio_AM"], log_mel[15 * 4 :].ravel())
    clip = next(c for split in clips.values() for c in split if c.clip_id == "cut/a")
    assert clip.motion_TPD.shape == (FRAMES - 15, 68, 2)


def test_no_frame_of_another_shot_leaks_into_crop_or_smoothing(build, tmp_path):
    build({**PEOPLE, "cut/a": {"cuts": [13]}}, smoothing_frames=5)
    row = row_of(tmp_path, "cut/a", CLIPS)
    points = row_of(tmp_path, "cut/a", LANDMARKS)["landmarks_TPD"].reshape(-1, 68, 2)[13:]
    left, top, side = row["crop_px"]
    np.testing.assert_allclose(row["crop_px"], tracks.square_crop(points, 1.3), rtol=1e-6)
    motion = row["motion_TPD"].reshape(-1, 68, 2) * side + np.array([left, top])
    np.testing.assert_allclose(motion, tracks.smooth(points, 5), atol=1e-2)


def test_rejected_clips_have_every_score_there_is(build):
    _, decisions = build({**PEOPLE, "bad/a": {"loudness_db": -120, "lag_s": 0.12}})
    scores = decisions["bad/a"].scores
    assert not decisions["bad/a"].kept
    assert not [name for name, value in scores.items() if math.isnan(value)]
    assert scores["mouth_loudness_lag_s"] == pytest.approx(0.12)
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
def test_inputs_of_different_runs_are_refused(build, tmp_path, tiny, lost):
    build(PEOPLE)
    for path in (tmp_path / lost).glob("*.parquet"):
        if path.name == DECISIONS:
            write_decisions(path, read_decisions(path)[1:], list(AUDIO_SCORES))
        else:
            path.unlink()
    with pytest.raises(InputError, match=r"p0/a was not decided.*run extract-landmarks"):
        list(
            verdicts(
                tmp_path / "ledger",
                tmp_path / "data" / "landmarks",
                tmp_path / "data" / "audio",
                tiny.build_dataset,
            )
        )


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
    clips, _ = build({**PEOPLE, "p3/b": {"frames": 43}}, pinned={"p3": "val"})
    assert "p3" in {clip.speaker_id for clip in clips["val"]}


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


def test_too_few_speakers_say_what_to_do(build):
    with pytest.raises(StageFailedError, match=r"2 speakers are too few .* more speakers"):
        build({"p0/a": {}, "p1/a": {}})


def test_nothing_left_is_a_failure_with_the_first_reason(build):
    with pytest.raises(StageFailedError, match=r"no clip is left of 1.*p0/a: frames is 43"):
        build({"p0/a": {"frames": 43}})


def test_the_card_tells_what_was_left_out(build, tmp_path):
    build({**PEOPLE, "bad/a": {"frames": 43}})
    assert "- too_short: 1" in (tmp_path / "dataset" / "card.md").read_text()


def test_an_empty_split_takes_a_speaker_and_says_so(caplog):
    few = {"a": "", "b": "", "c": ""}
    splits = split_speakers(few, seed=0, val_ratio=0.01, test_ratio=0.01)
    assert sorted(splits.values()) == ["test", "train", "val"]
    assert "pin speakers" in caplog.text


def test_speakers_who_join_later_move_nobody():
    names = [f"speaker {i}" for i in range(60)]
    few = split_speakers(dict.fromkeys(names[:40], ""), seed=0, val_ratio=0.2, test_ratio=0.2)
    many = split_speakers(dict.fromkeys(names, ""), seed=0, val_ratio=0.2, test_ratio=0.2)
    assert few.items() <= many.items()
    assert {split: list(many.values()).count(split) > 4 for split in set(many.values())} == {
        "train": True,
        "val": True,
        "test": True,
    }


def test_smoothing_delays_nothing():
    """A chirp is where it was, and a pulse stays symmetric."""
    ticks = np.arange(200)
    chirp = np.sin(2 * np.pi * (0.01 + 0.0003 * ticks) * ticks)
    pulse = np.exp(-(((ticks - 100) / 2) ** 2))
    motion = np.zeros((200, 68, 2), np.float32)
    motion[:, :, 0], motion[:, :, 1] = chirp[:, None], pulse[:, None]
    for width in (3, 5, 9):
        smoothed = tracks.smooth(motion, width)[:, 30]
        lags = range(-10, 11)
        products = [np.dot(chirp[20:180], smoothed[20 + lag : 180 + lag, 0]) for lag in lags]
        assert lags[int(np.argmax(products))] == 0
        np.testing.assert_allclose(smoothed[60:140, 1], smoothed[60:141, 1][:0:-1], atol=1e-6)
        assert smoothed[100, 1] < pulse[100]


def test_the_revision_follows_where_in_the_media_a_clip_begins(build, tmp_path):
    build(PEOPLE)
    rows = records.read(tmp_path / "dataset" / dataset.CLIPS, CLIPS)
    moved = [row | {"first_frame": 1} for row in rows]
    assert versions.dataset_revision(rows, []) != versions.dataset_revision(moved, [])
    assert dataset.media(tmp_path / "dataset")["p0/a"] == ("p0/a", 0)
