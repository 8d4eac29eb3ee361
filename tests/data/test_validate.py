"""Each kind of damage to a workspace, and what `validate` says of it."""

import json
import math

import numpy as np
import pytest

from mssync import records
from mssync.data import dataset
from mssync.data.validate import validate
from mssync.errors import InputError
from mssync.ledger import DECISIONS, read_decisions, write_decisions
from mssync.params import load
from mssync.records import AUDIO, AUDIO_SCORES, CLIPS, LANDMARKS, MANIFEST
from mssync.selection.rules import SCORES
from mssync.stages import build_dataset
from tests.handmade import FRAMES, write_inputs


@pytest.fixture
def workspace(tmp_path, root):
    """A sound workspace of eight clips."""
    write_inputs(tmp_path, {f"p{i}/a": {} for i in range(8)} | {"bad/a": {"loudness_db": -120}})
    build_dataset.run(
        *inputs(tmp_path),
        tmp_path / "dataset",
        tmp_path / "card",
        load(root / "params.test.yaml").build_dataset,
    )
    return tmp_path


def inputs(folder):
    data = folder / "data"
    return folder / "manifest.parquet", data / "landmarks", data / "audio", folder / "ledger"


def check(folder):
    return validate(*inputs(folder), folder / "dataset")


def change(path, schema, clip, keep_digest=False, **values):
    """Change a clip's row in the file that holds it, with the digest that fits."""
    for part in sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]:
        rows = records.read(part, schema)
        for row in rows:
            if row["clip_id"] != clip:
                continue
            row |= {
                name: value(row[name]) if callable(value) else value
                for name, value in values.items()
            }
            if "content" in row and not keep_digest:
                row["content"] = records.row_digest(row, schema)
        records.write(part, rows, schema)


def at(index, value):
    """Replace one value of an array."""

    def put(array):
        array = array.copy()
        array[index] = value
        return array

    return put


def test_a_sound_workspace_is_counted(workspace):
    found = check(workspace)
    assert (found.clips, found.landmarks, found.audio, found.dataset) == (9, 9, 9, 8)


def test_a_workspace_without_a_dataset_is_checked_so_far(workspace):
    (workspace / "dataset" / dataset.METADATA).unlink()
    assert check(workspace).dataset is None


LANDMARK_DAMAGE = {
    r"landmarks_TPD\[7\] is nan": {"landmarks_TPD": at(7, math.nan)},
    r"confidence_T\[3\] is 1.5, expected a number in \[0, 1\]": {"confidence_T": at(3, 1.5)},
    r"pose_TA\[0\] is 200": {"pose_TA": at(0, 200)},
    r"mouth_T has 59 values, expected 1 for each of 60 ticks": {"mouth_T": lambda a: a[:-1]},
    r"shot_T\[0\] is -1": {"shot_T": at(0, -1)},
    r"frames is 60.5": {"frames": 60.5},
    r"orphaned, the manifest has another media file": {"sha256": "other"},
}
AUDIO_DAMAGE = {
    r"log_mel_AM\[0\] is -19": {"log_mel_AM": at(0, -19)},
    r"log_mel_AM has 6239 values": {"log_mel_AM": lambda a: a[:-1]},
    r"speech_A\[5\] is -0.5": {"speech_A": at(5, -0.5)},
    r"loudness_A\[5\] is inf": {"loudness_A": at(5, math.inf)},
    r"mfcc_AC has 0 values": {"mfcc_AC": lambda a: a[:0]},
}


@pytest.mark.parametrize("says", LANDMARK_DAMAGE)
def test_damaged_landmarks_are_named(workspace, says):
    change(workspace / "data" / "landmarks", LANDMARKS, "p3/a", **LANDMARK_DAMAGE[says])
    with pytest.raises(InputError, match=rf"landmarks/part-\w+.parquet, row \d \(p3/a\): {says}"):
        check(workspace)


@pytest.mark.parametrize("says", AUDIO_DAMAGE)
def test_damaged_sound_is_named(workspace, says):
    change(workspace / "data" / "audio", AUDIO, "p3/a", **AUDIO_DAMAGE[says])
    with pytest.raises(InputError, match=rf"audio/part-\w+.parquet, row \d \(p3/a\): {says}"):
        check(workspace)


def test_a_value_that_changed_since_it_was_written_is_told_by_the_digest(workspace):
    folder = workspace / "data" / "landmarks"
    change(folder, LANDMARKS, "p3/a", keep_digest=True, landmarks_TPD=at(7, 111))
    with pytest.raises(InputError, match=r"p3/a\): content is not the digest of the row"):
        check(workspace)


def test_two_clocks_are_told(workspace):
    fewer = {
        "frames": FRAMES - 1,
        **{name: lambda a: a[: -len(a) // FRAMES] for name in ("log_mel_AM", "mfcc_AC")},
        **{name: lambda a: a[:-4] for name in ("loudness_A", "speech_A")},
    }
    change(workspace / "data" / "audio", AUDIO, "p3/a", **fewer)
    with pytest.raises(InputError, match=r"p3/a: .* 60 frames of it and .* 59"):
        check(workspace)


def test_a_clip_in_two_parts_is_named(workspace):
    folder = workspace / "data" / "landmarks"
    part = next(folder.glob("part-*"))
    records.write(folder / "part-zz.parquet", records.read(part, LANDMARKS)[:1], LANDMARKS)
    with pytest.raises(InputError, match=r"is in part-\w+.parquet and in part-zz.parquet"):
        check(workspace)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"clip_id": "p4/a"}, r"row 5 \(p4/a\): clip_id is there twice"),
        ({"clip_id": "a/a"}, r"row 4 \(a/a\): clip_id comes after p2/a"),
        ({"split": "valid"}, r"split is 'valid'"),
        ({"bytes": 0}, r"bytes is 0"),
    ],
)
def test_a_wrong_manifest_is_named(workspace, values, says):
    change(workspace / "manifest.parquet", MANIFEST, "p3/a", **values)
    with pytest.raises(InputError, match=says):
        check(workspace)


def test_a_row_without_a_clip_is_orphaned(workspace):
    manifest = workspace / "manifest.parquet"
    rows = [row for row in records.read(manifest, MANIFEST) if row["clip_id"] != "p3/a"]
    records.write(manifest, rows, MANIFEST)
    with pytest.raises(InputError, match=r"p3/a\): orphaned, the manifest has no such clip"):
        check(workspace)


def test_a_ledger_that_forgets_a_clip_or_contradicts_the_parts_is_named(workspace):
    path = workspace / "ledger" / "extract_audio" / DECISIONS
    decisions = read_decisions(path)
    write_decisions(path, decisions[1:], list(AUDIO_SCORES))
    with pytest.raises(InputError, match="bad/a of the manifest is not decided"):
        check(workspace)
    write_decisions(path, decisions, list(AUDIO_SCORES))
    for part in (workspace / "data" / "audio").glob("part-*"):
        rows = [row for row in records.read(part, AUDIO) if row["clip_id"] != "p3/a"]
        records.write(part, rows, AUDIO)
    with pytest.raises(InputError, match="p3/a is kept and not in its parts"):
        check(workspace)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"split": "valid"}, "p3/a: has the split 'valid'"),
        ({"speaker_id": "p4"}, "its speaker p4 is in "),
        ({"landmarks_content": "other"}, "does not hold the landmarks that are listed"),
        ({"audio_part": "part-other.parquet"}, "part-other.parquet does not hold the sound"),
        ({"frames": FRAMES + 1}, "its stretch is 0 to 61 of 60 frames"),
        ({"crop_side_px": 0.0}, "crop_side_px is 0"),
        ({"clip_id": "bad/a"}, "bad/a: comes after 'p2/a'"),
        ({"crop_left_px": 3.5}, "the revision of its rows"),
    ],
)
def test_a_dataset_that_does_not_fit_is_named(workspace, values, says):
    name = json.loads((workspace / "dataset" / dataset.METADATA).read_text())["clips"]
    change(workspace / "dataset" / name, CLIPS, "p3/a", **values)
    with pytest.raises(InputError, match=rf"dataset: .*{says}.*run build-dataset again"):
        check(workspace)


def test_a_ledger_of_another_build_is_told(workspace):
    path = workspace / "ledger" / "build_dataset" / DECISIONS
    kept = [d for d in read_decisions(path) if d.clip_id != "bad/a"]
    write_decisions(path, kept, SCORES)
    with pytest.raises(InputError, match="the revision of its rows"):
        check(workspace)


def test_numbers_are_compared_as_they_are_stored(workspace):
    """The digest of a row does not depend on whether it was read or is about to be written."""
    (part, *_) = (workspace / "data" / "audio").glob("part-*")
    row = records.read(part, AUDIO)[0]
    wide = row | {"log_mel_AM": np.asarray(row["log_mel_AM"], np.float64), "frames": 60}
    assert records.row_digest(wide, AUDIO) == row["content"]
