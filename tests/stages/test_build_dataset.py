import numpy as np
import pytest

from mssync import records
from mssync.data import dataset
from mssync.data.splits import split_speakers
from mssync.errors import StageFailedError
from mssync.ledger import DECISIONS, Decision, read_decisions, write_decisions
from mssync.params import BuildDataset
from mssync.parts import Parts
from mssync.records import AUDIO, AUDIO_SCORES, LANDMARK_SCORES, LANDMARKS, MANIFEST
from mssync.stages import build_dataset

FRAMES = 60
GOOD = {
    "frames": FRAMES,
    "source_fps_hz": 25,
    "tracked_ratio": 1,
    "longest_gap_frames": 0,
    "mean_confidence": 0.9,
    "faces_ratio": 0,
    "interocular_px": 60,
    "max_jump": 0.02,
    "audio_s": 2.4,
    "video_s": 2.4,
    "length_mismatch_s": 0.01,
    "loudness_db": -20,
    "clipped_ratio": 0,
}


@pytest.fixture
def build(tmp_path, tiny):
    """Build a dataset of clips whose scores are given: (clips by split, decisions by clip)."""

    def run(clips, *, seed=0, pinned=None, **changes):
        scores = {clip: {**GOOD, **bad} for clip, bad in clips.items()}
        write_inputs(tmp_path, scores, pinned or {})
        params = BuildDataset(**{**tiny.build_dataset.model_dump(), **changes})
        build_dataset.run(
            tmp_path / "manifest.parquet",
            tmp_path / "landmarks",
            tmp_path / "audio",
            tmp_path / "ledger",
            tmp_path / "dataset",
            params,
            seed=seed,
        )
        decisions = read_decisions(tmp_path / "ledger" / "build_dataset" / DECISIONS)
        return dataset.load_clips(tmp_path / "dataset"), {d.clip_id: d for d in decisions}

    return run


def write_inputs(folder, scores, pinned):
    rng = np.random.default_rng(0)
    manifest = []
    landmarks = Parts(folder / "landmarks", LANDMARKS, key="k", clips_per_part=2)
    audio = Parts(folder / "audio", AUDIO, key="k", clips_per_part=2)
    for clip, found in scores.items():
        manifest.append(
            {
                **dict.fromkeys(("language", "licence", "tags"), ""),
                "clip_id": clip,
                "speaker_id": clip.split("/")[0],
                "sha256": clip,
                "bytes": 1,
                "split": pinned.get(clip.split("/")[0], ""),
            }
        )
        points = 100 + 50 * rng.random((FRAMES, 68, 2))
        landmarks.add(
            {
                "clip_id": clip,
                "sha256": clip,
                "landmarks_TPD": points.astype(np.float32).ravel(),
                "confidence_T": np.full(FRAMES, 0.9, np.float32),
                "interpolated_T": np.zeros(FRAMES, bool),
                **{name: found[name] for name in LANDMARK_SCORES},
            }
        )
        audio.add(
            {
                "clip_id": clip,
                "sha256": clip,
                "log_mel_AM": rng.random(FRAMES * 4 * 26).astype(np.float32),
                "mfcc_AC": rng.random(FRAMES * 4 * 13).astype(np.float32),
                **{name: found[name] for name in AUDIO_SCORES},
            }
        )
    landmarks.close()
    audio.close()
    records.write(folder / "manifest.parquet", manifest, MANIFEST)
    for stage, names in (("extract_landmarks", LANDMARK_SCORES), ("extract_audio", AUDIO_SCORES)):
        decisions = [
            Decision(clip, scores={name: found[name] for name in names})
            for clip, found in scores.items()
        ]
        write_decisions(folder / "ledger" / stage / DECISIONS, decisions, list(names))


PEOPLE = {f"p{i}/a": {} for i in range(8)}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"frames": 20}, "too_short"),
        ({"source_fps_hz": 5}, "too_few_frames"),
        ({"tracked_ratio": 0.5}, "face_lost"),
        ({"longest_gap_frames": 9}, "face_lost"),
        ({"mean_confidence": 0.2}, "low_confidence"),
        ({"interocular_px": 8}, "face_too_small"),
        ({"max_jump": 2}, "face_jumps"),
        ({"faces_ratio": 0.9}, "several_faces"),
        ({"length_mismatch_s": 3}, "length_mismatch"),
        ({"loudness_db": -120}, "silent"),
    ],
)
def test_every_threshold_rejects_with_its_own_reason(build, bad, reason):
    clips, decisions = build({**PEOPLE, "bad/a": bad})
    assert decisions["bad/a"].reason == reason
    assert "(build_dataset." in decisions["bad/a"].detail
    assert "bad/a" not in [clip.clip_id for split in clips.values() for clip in split]


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
    clips, _ = build({**PEOPLE, "p3/b": {"frames": 3}}, pinned={"p3": "val"})
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
    with pytest.raises(StageFailedError, match=r"no clip is left of 1.*p0/a: frames is 3"):
        build({"p0/a": {"frames": 3}})


def test_the_card_tells_what_was_left_out(build, tmp_path):
    build({**PEOPLE, "bad/a": {"frames": 3}})
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
