"""What both extraction stages rest on: files that kill, runs that are killed, lists that grow."""

import json
import os
import shutil
import subprocess
import sys
import time

import pyarrow as pa
import pytest

from mssync import records
from mssync.errors import ClipRejectedError, InputError, StageFailedError
from mssync.ledger import ATTEMPTS, DECISIONS, read_attempts, read_decisions
from mssync.media import store as media_store
from mssync.media.store import MediaStore
from mssync.parts import read_parts
from mssync.stages import extract_landmarks
from mssync.stages._extract import Extraction, extract

SMALL = pa.schema(
    [pa.field("clip_id", pa.string()), pa.field("sha256", pa.string()),
     pa.field("content", pa.string()), pa.field("value", pa.float32(), nullable=False)]
)  # fmt: skip
AWAY_S = 60
STAGE = """
import sys
from pathlib import Path
from mssync import log
from mssync.media.store import MediaStore
from mssync.params import load
from mssync.stages import extract_landmarks

log.set_up()
root, folder, store = map(Path, sys.argv[1:])
params = load(root / "params.test.yaml").extract_landmarks.model_copy(
    update={"clips_per_part": 3}
)
extract_landmarks.run(
    folder.parent / "manifest.parquet", folder / "landmarks", folder / "ledger", params,
    store=MediaStore(store), workers=2, device="cpu",
)
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A store that the tests of this file share; nothing in it changes."""
    return MediaStore(tmp_path_factory.mktemp("shelf"))


def listed(manifest, contents, store):
    """Put media into the store and write a manifest of them, in the order given."""
    rows = []
    for clip_id, content in contents.items():
        file = store.partial(clip_id)
        file.write_bytes(content)
        texts = dict.fromkeys(("split", "language", "licence", "tags"), "")
        sha256 = store.adopt(file, sha256=media_store.digest(file))
        clip = {"clip_id": clip_id, "speaker_id": clip_id, "sha256": sha256}
        rows.append(clip | texts | {"bytes": len(content), "av_offset_ms": float("nan")})
    records.write(manifest, rows, records.MANIFEST)


def written(folder):
    """Bytes and time of every part."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.glob("part-*.parquet"))
    }


def contents(folder):
    return {name: content for name, (content, _) in written(folder).items()}


# ---------------------------------------------------------------- files that go wrong

DEEDS = {
    "crashes": lambda sandbox: sandbox.call(os.abort, wall_s=AWAY_S),
    "hangs": lambda sandbox: sandbox.call(time.sleep, AWAY_S, wall_s=0.3),
    "swells": lambda sandbox: sandbox.call(bytearray, 10**11, wall_s=AWAY_S),
    "fails in the child": lambda sandbox: sandbox.call(json.loads, None, wall_s=AWAY_S),
    "fails here": lambda sandbox: {}["no such key"],
}
REASONS = {
    "crashes": "crashed",
    "hangs": "too_costly",
    "swells": "too_costly",
    "fails in the child": "bug",
    "fails here": "bug",
    "says why": "no_audio",
}


TEXTS = {f"{number}": f"goes well {number}" for number in range(8)}


def behave(media, sandbox):
    """Do what the media say: the pieces before the number are the deed."""
    deed, number = media.read_text().rsplit(" ", 1)
    if deed == "says why":
        raise ClipRejectedError("no_audio", "there is no audio stream")
    if deed in DEEDS:
        DEEDS[deed](sandbox)
    return {"value": sandbox.call(float, number, wall_s=AWAY_S)}


@pytest.fixture
def machine(tmp_path, shelf, tiny):
    """Run the machinery over clips that behave as their media say: decisions by clip."""

    def run(texts, *, workers=2, one=behave, **changes):
        if texts:
            listed(tmp_path / "manifest.parquet", {c: t.encode() for c, t in texts.items()}, shelf)
        changes = {"clips_per_part": 3, "min_success_ratio": 0.0} | changes
        extraction = Extraction(
            name="test",
            one=one,
            schema=SMALL,
            scores=["value"],
            version=1,
            params=tiny.extract_audio.model_copy(update=changes),
        )
        extract(
            extraction,
            tmp_path / "manifest.parquet",
            tmp_path / "parts",
            tmp_path / "ledger",
            store=shelf,
            workers=workers,
            whole=True,
        )
        return {d.clip_id: d for d in read_decisions(tmp_path / "ledger" / DECISIONS)}

    return run


def tries(parts):
    return len(read_attempts(parts.with_name("ledger") / ATTEMPTS))


@pytest.mark.parametrize("workers", [1, 3])
def test_what_goes_wrong_with_one_clip_harms_no_other(machine, tmp_path, caplog, workers):
    texts = {f"{number}/{deed}": f"{deed} {number}" for number, deed in enumerate(REASONS)}
    texts |= {f"{number}/z": f"goes well {number}" for number in range(8)}
    decisions = machine(texts, workers=workers)
    assert set(decisions) == set(texts)
    for clip_id, decision in decisions.items():
        number, deed = clip_id.split("/")
        assert decision.reason == REASONS.get(deed, "")
        assert bool(decision.detail) != decision.kept
        if decision.kept:
            assert decision.scores == {"value": float(number)}
    kept = {row["clip_id"] for row in read_parts(tmp_path / "parts", SMALL)}
    assert kept == {clip_id for clip_id, decision in decisions.items() if decision.kept}
    tried = {a.clip_id: a.outcome for a in read_attempts(tmp_path / "ledger" / ATTEMPTS)}
    assert tried == {clip_id: d.reason or "done" for clip_id, d in decisions.items()}
    assert "3/fails in the child" in caplog.text
    assert "in loads" in caplog.text
    assert "KeyError: 'no such key'" in caplog.text


def no_weights(media, sandbox):
    row = behave(media, sandbox)
    if row["value"] == 6:
        raise InputError("the weights are missing")
    return row


def test_an_error_of_the_installation_stops_the_stage_and_keeps_what_is_done(machine, tmp_path):
    with pytest.raises(InputError, match="weights"):
        machine(TEXTS, workers=1, one=no_weights)
    before = written(tmp_path / "parts")
    assert len(before) == 2
    assert all(decision.kept for decision in machine(TEXTS, workers=1).values())
    assert written(tmp_path / "parts").items() >= before.items()
    outcomes = [a.clip_id for a in read_attempts(tmp_path / "ledger" / ATTEMPTS)]
    assert sorted(outcomes) == sorted(TEXTS)


def test_parts_are_no_larger_than_they_may_be_though_more_clips_waited(machine, tmp_path):
    """As after a kill between the last clip of a part and the part."""
    with pytest.raises(InputError, match="weights"):
        machine(TEXTS, workers=1, one=no_weights, clips_per_part=8)
    machine(TEXTS, workers=1, clips_per_part=3)
    sizes = [
        len(records.read(path, SMALL)) for path in sorted((tmp_path / "parts").glob("*.parquet"))
    ]
    assert sorted(sizes) == [2, 3, 3]
    assert tries(tmp_path / "parts") == 8


def test_media_that_are_gone_stop_the_stage_before_it_begins(machine, tmp_path, shelf):
    machine({"a": "goes well 1"})
    clip = records.read(tmp_path / "manifest.parquet", records.MANIFEST)[0]
    gone = clip | {"clip_id": "b", "sha256": "0" * 64}
    records.write(tmp_path / "manifest.parquet", [clip, gone], records.MANIFEST)
    with pytest.raises(InputError, match="media of 1 clips, b among them"):
        machine(None)
    assert tries(tmp_path / "parts") == 1


def test_too_few_clips_fail_the_stage_and_the_ledger_is_written_all_the_same(machine, tmp_path):
    texts = {"a": "goes well 1", "b": "says why 1", "c": "says why 2"}
    with pytest.raises(StageFailedError, match=r"1 of 3 clips survive.*b: no_audio"):
        machine(texts, min_success_ratio=0.5)
    assert len(read_decisions(tmp_path / "ledger" / DECISIONS)) == 3


# ---------------------------------------------------------------- lists that grow


def test_rows_do_not_depend_on_the_order_of_the_manifest(machine, tmp_path):
    def rows():
        found = read_parts(tmp_path / "parts", SMALL)
        return sorted((row["clip_id"], row["sha256"], row["value"]) for row in found)

    machine(TEXTS)
    before = rows(), (tmp_path / "ledger" / DECISIONS).read_bytes()
    shutil.rmtree(tmp_path / "parts")
    machine(dict(reversed(TEXTS.items())), workers=3)
    assert (rows(), (tmp_path / "ledger" / DECISIONS).read_bytes()) == before
    assert tries(tmp_path / "parts") == 2 * len(TEXTS)


def test_clips_that_join_later_add_parts_and_touch_none(machine, tmp_path):
    machine(dict(list(TEXTS.items())[:5]))
    before = written(tmp_path / "parts")
    machine(TEXTS)
    after = written(tmp_path / "parts")
    assert len(before) == 2
    assert after.items() > before.items()
    assert len(list(read_parts(tmp_path / "parts", SMALL))) == tries(tmp_path / "parts") == 8


def test_a_clip_that_is_taken_off_the_list_or_replaced_costs_its_own_part_only(machine, tmp_path):
    machine(TEXTS)
    before = written(tmp_path / "parts")
    machine({clip_id: text for clip_id, text in TEXTS.items() if clip_id != "1"})
    assert len(before.items() & written(tmp_path / "parts").items()) == len(before) - 1
    assert tries(tmp_path / "parts") == 8
    machine(TEXTS | {"1": "goes well 100"})
    values = {row["clip_id"]: row["value"] for row in read_parts(tmp_path / "parts", SMALL)}
    assert values == {clip_id: float(clip_id) for clip_id in TEXTS} | {"1": 100.0}
    assert tries(tmp_path / "parts") == 9


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"pre_emphasis": 0.9}, True),
        ({"speech_threshold": 0.6}, True),
        ({"process_bytes": 3_900_000_000}, False),
        ({"max_s_per_s": 30.0}, False),
        ({"clips_per_part": 1, "min_success_ratio": 0.1}, False),
    ],
    ids=["features", "scores", "memory", "time", "the rest"],
)
def test_what_changes_rows_does_them_again_and_what_does_not_does_not(
    machine, tmp_path, change, again
):
    machine(TEXTS)
    before = written(tmp_path / "parts")
    machine(TEXTS, **change)
    assert (written(tmp_path / "parts") == before) is not again
    assert tries(tmp_path / "parts") == (16 if again else 8)


# ---------------------------------------------------------------- the real stage


@pytest.fixture(scope="module")
def undisturbed(root, tmp_path_factory, shelf, small_corpus):
    """A run with two workers in a process of its own; beside it, the manifest."""
    paths = sorted((small_corpus / "media").rglob("*.mp4"))
    folder = tmp_path_factory.mktemp("landmarks") / "undisturbed"
    videos = {str(path.relative_to(small_corpus)): path.read_bytes() for path in paths}
    listed(folder.with_name("manifest.parquet"), videos, shelf)
    finish(root, folder, shelf)
    return folder


def test_parts_do_not_depend_on_the_number_of_workers(undisturbed, tmp_path, shelf, tiny):
    extract_landmarks.run(
        undisturbed.with_name("manifest.parquet"),
        tmp_path / "landmarks",
        tmp_path / "ledger",
        tiny.extract_landmarks.model_copy(update={"clips_per_part": 3}),
        store=shelf,
        workers=1,
        device="cpu",
    )
    assert len(contents(undisturbed / "landmarks")) == 3
    assert contents(tmp_path / "landmarks") == contents(undisturbed / "landmarks")
    assert decided(tmp_path) == decided(undisturbed)


def decided(folder):
    return (folder / "ledger" / DECISIONS).read_bytes()


def finished(folder):
    """Clips that are in parts, or wait for one."""
    folders = folder / "landmarks", folder / "landmarks.unfinished"
    return {
        row["clip_id"]
        for each in folders
        for path in each.glob("part-*.parquet")
        for row in records.read(path, None, columns=["clip_id"])
    }


def start(root, folder, shelf):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", STAGE, str(root), str(folder), str(shelf.folder)]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(command, stderr=log, cwd=root)


def finish(root, folder, shelf):
    with start(root, folder, shelf) as process:
        try:
            assert process.wait(timeout=240) == 0, (folder / "log").read_text()
        finally:
            process.kill()


def begun(folder):
    """Whether a clip is done; its file may be gone already when it is looked into."""
    return any((folder / "landmarks.unfinished").glob("part-*")) or any(
        (folder / "landmarks").glob("part-*")
    )


def test_killed_in_the_middle_it_goes_on_where_it_was(root, shelf, undisturbed):
    folder = undisturbed.with_name("killed")
    clips = finished(undisturbed)
    with start(root, folder, shelf) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and not begun(folder) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    done = finished(folder)
    assert 0 < len(done) < len(clips) == 8, "the stage was done before it could be killed"
    finish(root, folder, shelf)

    tried = {attempt.clip_id for attempt in read_attempts(folder / "ledger" / ATTEMPTS)}
    assert tried == clips - done
    assert contents(folder / "landmarks") == contents(undisturbed / "landmarks")
    assert not (folder / "landmarks.unfinished").exists()
    assert decided(folder) == decided(undisturbed)
