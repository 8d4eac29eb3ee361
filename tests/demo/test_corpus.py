import csv
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mssync.demo.corpus import CorpusSpec, make
from mssync.errors import InputError
from mssync.landmarks import ibug
from mssync.media import decode
from mssync.media.sound import read_sound
from mssync.params import load
from mssync.stages import extract_landmarks

ROOT = Path(__file__).parents[2]


def _rows(corpus):
    with (corpus / "sources.csv").open() as file:
        return list(csv.DictReader(file))


def _truth(corpus, source):
    with np.load((corpus / "truth" / source).with_suffix(".npz")) as stored:
        return dict(stored)


def _sound(corpus, source):
    path = corpus / "media" / source
    return read_sound(path, decode.read_clock(path)).waveform_N


def _follow(path):
    params = load(ROOT / "params.yaml").extract_landmarks
    row = extract_landmarks.follow(path, params=params)
    assert not row["interpolated_T"].any()
    return row["landmarks_TPD"].reshape(-1, 68, 2)


def _later_by(late, early):
    """The shift, in frames, at which two curves agree best."""
    shifts = range(-8, 9)
    inner = slice(10, -10)
    scores = [np.corrcoef(np.roll(late, -shift)[inner], early[inner])[0, 1] for shift in shifts]
    return shifts[int(np.argmax(scores))]


def _loudness(waveform):
    return np.log(np.square(waveform.reshape(-1, 640)).mean(axis=1) + 1e-5)


def test_the_detector_finds_the_true_landmarks(corpus):
    for row in _rows(corpus):
        points = _follow(corpus / "media" / row["source"])
        truth = _truth(corpus, row["source"])["landmarks_TPD"]

        error = np.linalg.norm(points - truth, axis=-1) / ibug.interocular_distance(truth)[:, None]
        opening = np.corrcoef(ibug.mouth_opening(points), ibug.mouth_opening(truth))[0, 1]

        assert error.mean() <= 0.05
        assert opening >= 0.9


def test_each_clip_has_its_true_landmarks_and_as_much_sound(corpus):
    for row in _rows(corpus):
        truth = _truth(corpus, row["source"])
        frames = 125 if "long" in row["source"] else 100
        assert truth["landmarks_TPD"].shape == (frames, 68, 2)
        assert truth["landmarks_TPD"].dtype == np.float32
        assert truth["frame_rate_hz"] == 25
        assert decode.read_clock(corpus / "media" / row["source"]).frames == frames
        assert len(_sound(corpus, row["source"])) == 640 * frames


def test_no_speaker_is_in_two_splits(corpus):
    rows = _rows(corpus)
    splits = {row["speaker_id"]: {other["split"] for other in rows
              if other["speaker_id"] == row["speaker_id"]} for row in rows}  # fmt: skip
    assert splits == {"speaker_00": {"train"}, "speaker_01": {"val"}, "speaker_02": {"test"}}


def test_every_listed_clip_exists_and_only_test_speakers_have_a_long_one(corpus):
    listed = {row["source"] for row in _rows(corpus)}
    made = {path.relative_to(corpus / "media").as_posix() for path in corpus.glob("media/*/*")}
    assert listed == made
    assert {source for source in listed if "long" in source} == {"speaker_02/long.mp4"}


def test_speakers_differ_in_shape(corpus):
    shapes = []
    for row in _rows(corpus)[:3]:
        points = _truth(corpus, row["source"])["landmarks_TPD"].mean(axis=0)
        shapes.append((points - points[27]) / ibug.interocular_distance(points))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(shapes[one] - shapes[other]).max() > 0.03


def test_a_deleted_clip_is_made_again_alike_and_no_other(corpus, spec):
    gone = "speaker_01/clip_0.mp4"
    truth, sound = _truth(corpus, gone), _sound(corpus, gone)
    before = {path: path.stat().st_mtime_ns for path in corpus.glob("*/*/*")}
    (corpus / "media" / gone).unlink()

    make(corpus, spec, workers=1)

    after = {path: path.stat().st_mtime_ns for path in corpus.glob("*/*/*")}
    changed = {path.relative_to(corpus).as_posix() for path in after if after[path] != before[path]}
    assert changed == {"media/speaker_01/clip_0.mp4", "truth/speaker_01/clip_0.npz"}
    np.testing.assert_array_equal(_truth(corpus, gone)["landmarks_TPD"], truth["landmarks_TPD"])
    np.testing.assert_array_equal(_sound(corpus, gone), sound)


def test_a_finished_corpus_is_left_alone(corpus, spec, caplog):
    with caplog.at_level(logging.INFO):
        assert make(corpus, spec, workers=2) == corpus
    assert not caplog.records


def test_late_motion_is_late_and_another_specification_replaces_the_corpus(tmp_path):
    spec = CorpusSpec(speakers=1, clips_per_speaker=1, clip_s=4, test_speakers=0, val_speakers=0,
                      size_px=64)  # fmt: skip
    source = "speaker_00/clip_0.mp4"
    make(tmp_path, spec, workers=1)
    in_time = _truth(tmp_path, source)["landmarks_TPD"]
    make(tmp_path, replace(spec, lag_frames=3), workers=1)
    late = _truth(tmp_path, source)

    assert late["lag_frames"] == 3
    np.testing.assert_array_equal(late["landmarks_TPD"][3:], in_time[:-3])
    loudness = _loudness(_sound(tmp_path, source))
    assert abs(_later_by(ibug.mouth_opening(in_time), loudness)) <= 1
    assert abs(_later_by(ibug.mouth_opening(late["landmarks_TPD"]), loudness) - 3) <= 1


def test_a_folder_that_holds_something_else_is_refused(tmp_path, spec):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="holds no demo corpus"):
        make(tmp_path, spec, workers=1)
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"speakers": 4}, "none is left to train on"),
        ({"size_px": 130}, "multiple of 4"),
        ({"voice": "whisper"}, "voice must be one of"),
        ({"clip_s": 0.0}, "at least one frame"),
        ({"clips_per_speaker": 0}, "needs clips"),
    ],
)
def test_an_impossible_specification_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        CorpusSpec(**wrong)
