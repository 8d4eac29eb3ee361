import numpy as np
import pytest

from mssync.parts import Parts, read_parts
from mssync.records import AUDIO, AUDIO_SCORES


def row(clip, sha256="a"):
    values = np.arange(8, dtype=np.float32)
    return {
        "clip_id": clip,
        "sha256": sha256,
        "log_mel_AM": values,
        "mfcc_AC": values,
        "wide_mel_AM": values,
        "loudness_A": values,
        "speech_A": values,
        **dict.fromkeys(AUDIO_SCORES, 0.5),
    }


@pytest.fixture
def parts(tmp_path):
    def make(key="k"):
        return Parts(tmp_path / "parts", AUDIO, key=key, clips_per_part=2)

    return make


def clips(tmp_path):
    return sorted(row["clip_id"] for row in read_parts(tmp_path / "parts", AUDIO))


def test_rows_come_back_as_they_went_in(parts, tmp_path):
    parts().keep_only({})
    writer = parts()
    writer.add(row("one"))
    writer.close()
    (read,) = read_parts(tmp_path / "parts", AUDIO)
    assert read["clip_id"] == "one"
    np.testing.assert_array_equal(read["log_mel_AM"], np.arange(8, dtype=np.float32))


def test_a_killed_stage_loses_no_finished_clip(parts, tmp_path):
    killed = parts()
    for clip in ("one", "two", "three"):
        killed.add(row(clip))
    del killed  # never closed: `three` waits beside the parts
    resumed = parts()
    assert resumed.keep_only({"one": "a", "two": "a", "three": "a"}) == {"one", "two", "three"}
    resumed.close()
    assert clips(tmp_path) == ["one", "three", "two"]


def test_another_key_makes_all_parts_worthless(parts, tmp_path):
    first = parts()
    first.add(row("one"))
    first.close()
    assert parts(key="other").keep_only({"one": "a"}) == set()
    assert clips(tmp_path) == []


def test_a_clip_that_left_the_list_or_changed_leaves_the_parts(parts, tmp_path):
    first = parts()
    for clip in ("gone", "changed", "same"):
        first.add(row(clip))
    first.close()
    second = parts()
    assert second.keep_only({"changed": "b", "same": "a"}) == {"same"}
    second.close()
    assert clips(tmp_path) == ["same"]


def test_a_new_batch_adds_parts_and_rewrites_none(parts, tmp_path):
    first = parts()
    first.add(row("one"))
    first.close()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    second = parts()
    second.keep_only({"one": "a", "two": "a"})
    second.add(row("two"))
    second.close()
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts").iterdir()}
    assert before.items() < after.items()


def test_a_damaged_part_is_made_again(parts, tmp_path):
    first = parts()
    first.add(row("one"))
    first.close()
    (path,) = (tmp_path / "parts").iterdir()
    path.write_bytes(path.read_bytes()[:50])
    assert parts().keep_only({"one": "a"}) == set()
