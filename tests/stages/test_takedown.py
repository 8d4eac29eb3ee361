"""People, sources and clips that are taken out of everything derived."""

import os
import shutil
import subprocess
import sys

import mlflow
import pytest

from mssync import records, tracking, versions
from mssync.data import dataset, history
from mssync.data.pack import open_pack
from mssync.data.validate import validate
from mssync.download import takedown as tombstones
from mssync.download.takedown import Tombstones
from mssync.errors import InputError
from mssync.ledger import DECISIONS, Decision, read_decisions, write_decisions
from mssync.params import load
from mssync.stages import _purge, _takedown, build_dataset
from mssync.stages._takedown import Request
from tests.handmade import write_inputs
from tests.killing import killed

CLIPS = {
    **{f"p{i}/a.mp4": {} for i in range(6)},
    "p1/b.mp4#0-4000": {},
    "p1/b.mp4#4000-end@0.1,0,0.6,0.9": {},
    "p4/quiet.mp4": {"loudness_db": -120},
}
PARTS = (("landmarks", records.LANDMARKS), ("audio", records.AUDIO))
NO_RUNS = "sqlite:///nowhere.db"


@pytest.fixture
def workspace(tmp_path, root):
    """A workspace with a dataset, laid out as the chain does."""
    folder = tmp_path / "workspace"
    prepare(folder, root)
    return folder


def prepare(folder, root):
    write_inputs(folder, CLIPS)
    shutil.move(folder / "manifest.parquet", folder / "data" / "manifest.parquet")
    rows = records.read(folder / "data" / "manifest.parquet", records.MANIFEST)
    texts = dict.fromkeys(records.PROVENANCE.names, "") | {"source_bytes": 1}
    records.write(
        folder / "data" / "provenance.parquet",
        [texts | {"clip_id": row["clip_id"]} for row in rows],
        records.PROVENANCE,
    )
    decisions = [Decision(row["clip_id"], scores={"bytes": 1.0}) for row in rows]
    write_decisions(folder / "ledger" / "download_videos" / DECISIONS, decisions, ["bytes"])
    build(folder, root)


def build(folder, root):
    build_dataset.run(
        *paths(folder),
        folder / "data" / "dataset",
        folder / "data" / "card",
        load(root / "params.test.yaml").build_dataset,
    )
    return dataset.load(folder / "data" / "dataset").revision


def paths(folder):
    data = folder / "data"
    return data / "manifest.parquet", data / "landmarks", data / "audio", folder / "ledger"


def take_down(folder, **request):
    return _takedown.run(folder, Request(**request), tracking_uri=NO_RUNS)


def parts(folder):
    return {path for kind, _ in PARTS for path in (folder / "data" / kind).glob("part-*")}


def everywhere(folder):
    """Clips in parts, tables, ledgers, caches and dataset."""
    found = {}
    for kind, schema in PARTS:
        rows = [row for path in sorted((folder / "data" / kind).glob("part-*"))
                for row in records.stream(path, schema, columns=["clip_id"])]  # fmt: skip
        found[kind] = {row["clip_id"] for row in rows}
    for name in ("manifest", "provenance"):
        rows = records.read(folder / "data" / f"{name}.parquet", None)
        found[name] = {row["clip_id"] for row in rows}
    for stage in ("extract_landmarks", "extract_audio", "build_dataset"):
        decisions = read_decisions(folder / "ledger" / stage / DECISIONS)
        found[stage] = {decision.clip_id for decision in decisions}
    cached = (folder / "data" / "dataset.evidence").glob("evidence-*")
    found["evidence"] = {row["clip_id"] for path in cached for row in records.read(path, None)}
    found["dataset"] = set(dataset.load(folder / "data" / "dataset").sources())
    found["dataset"] |= {clip for clip in CLIPS if clip == "p4/quiet.mp4"} & found["manifest"]
    return found


@pytest.mark.parametrize(
    ("request_", "gone"),
    [
        ({"speakers": ["p1"]}, {"p1/a.mp4", *(c for c in CLIPS if c.startswith("p1/b"))}),
        ({"sources": ["./p1//b.mp4"]}, {c for c in CLIPS if c.startswith("p1/b")}),
        ({"clips": ["p1/b.mp4#0-4000", "p0/a.mp4"]}, {"p1/b.mp4#0-4000", "p0/a.mp4"}),
        ({"speakers": ["p4"]}, {"p4/a.mp4", "p4/quiet.mp4"}),
    ],
)
def test_clips_go_everywhere_and_the_rest_stays(workspace, request_, gone):
    found = take_down(workspace, **request_)
    assert set(found.clips) == gone
    for where, clips in everywhere(workspace).items():
        assert clips == set(CLIPS) - gone, where
    checked = validate(*paths(workspace), workspace / "data" / "dataset")
    assert checked.clips == len(CLIPS) - len(gone)
    assert found.after == dataset.load(workspace / "data" / "dataset").revision != found.before
    assert not (workspace / _takedown.JOURNAL).exists()


def test_nothing_that_was_packed_of_an_older_version_stays(workspace):
    version = dataset.load(workspace / "data" / "dataset")
    open_pack(version, "train")
    packed = dataset.pack_folder(version.folder, version.revision)
    assert packed.is_dir()
    take_down(workspace, clips=[version.rows[0]["clip_id"]])
    assert not packed.exists()


def test_only_the_parts_concerned_are_rewritten(workspace):
    before = {path: path.stat().st_mtime_ns for path in parts(workspace)}
    found = take_down(workspace, clips=["p0/a.mp4"])
    assert found.parts == 2
    kept = {path: when for path, when in before.items() if path.exists()}
    assert len(kept) == len(before) - 2
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())


def test_the_stages_would_make_the_same_of_the_list_without_them(workspace, root):
    """So that the chain, run again, changes nothing."""
    found = take_down(workspace, speakers=["p1"])
    before = {path: path.read_bytes() for path in parts(workspace)}
    card = (workspace / "data" / "card" / "card.json").read_bytes()
    assert build(workspace, root) == found.after
    assert {path: path.read_bytes() for path in parts(workspace)} == before
    assert (workspace / "data" / "card" / "card.json").read_bytes() == card


def test_the_download_knows_them_for_ever(workspace):
    take_down(workspace, speakers=["p1"], reason="by letter, 3 May")
    take_down(workspace, sources=["p2/a.mp4"])
    take_down(workspace, clips=["p3/a.mp4"], reason="a, b")
    take_down(workspace, clips=["p3/a.mp4"], reason="once is enough")
    stones = Tombstones.read(workspace / "data" / "takedown.csv")
    assert stones.match("elsewhere.mp4", "p1") == "by letter, 3 May"
    assert stones.match("./p2/a.mp4", "") == "on request"
    assert stones.match("p3/a.mp4", "p3", "p3/a.mp4") == "a, b"
    assert stones.match("p3/a.mp4", "p3", "p3/a.mp4#0-1000") is None
    assert len((workspace / "data" / "takedown.csv").read_text().splitlines()) == 4
    decided = read_decisions(workspace / "ledger" / "download_videos" / DECISIONS)
    reasons = {decision.clip_id: decision.reason for decision in decided}
    assert reasons["p1/a.mp4"] == "taken_down"
    assert set(reasons) == set(CLIPS)


def test_an_older_takedown_list_is_kept(workspace):
    path = workspace / "data" / "takedown.csv"
    path.write_text("source,reason\nz.mp4,before\n")
    take_down(workspace, speakers=["p1"])
    stones = Tombstones.read(path)
    assert (stones.match("z.mp4", ""), stones.match("y", "p1")) == ("before", "on request")


def test_a_channel_that_stands_for_its_speaker_is_known_by_its_name(workspace):
    path = workspace / "data" / "provenance.parquet"
    rows = records.read(path, records.PROVENANCE)
    records.write(path, [row | {"uploader": "p1"} for row in rows], records.PROVENANCE)
    take_down(workspace, speakers=["p1"])
    assert Tombstones.read(workspace / "data" / "takedown.csv").match_uploader("P1") is not None


def test_who_is_not_there_leaves_a_tombstone_and_no_other_trace(workspace, caplog):
    before = dataset.load(workspace / "data" / "dataset").revision
    found = take_down(workspace, speakers=["nobody"])
    assert (found.clips, found.before, found.after) == ([], None, None)
    assert "only the tombstone" in caplog.text
    assert dataset.load(workspace / "data" / "dataset").revision == before
    assert Tombstones.read(workspace / "data" / "takedown.csv").match("x", "nobody")


def test_when_everybody_goes_no_dataset_is_left(workspace):
    found = take_down(workspace, speakers=[f"p{i}" for i in range(6)])
    assert found.before
    assert found.after is None
    assert not parts(workspace)
    with pytest.raises(InputError, match="holds no dataset"):
        dataset.load(workspace / "data" / "dataset")


def test_runs_and_models_that_were_trained_on_them_are_listed(workspace, tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    revision = dataset.load(workspace / "data" / "dataset").revision
    client = mlflow.MlflowClient(uri)
    experiment = client.create_experiment("mssync")
    runs = [
        client.create_run(experiment, run_name=name, tags={"dataset_revision": of})
        for name, of in (("train-generator", revision), ("of another dataset", "0" * 64))
    ]
    client.create_registered_model("generator")
    for run, of in zip(runs, (revision, "0" * 64), strict=True):
        client.create_model_version(
            "generator", "nowhere", run.info.run_id, tags={"dataset_revision": of}
        )
    found = _takedown.run(workspace, Request(speakers=["p1"]), tracking_uri=uri)
    assert [(each.name, each.run_id) for each in found.trained] == [
        ("train-generator", runs[0].info.run_id),
        ("generator 1", runs[0].info.run_id),
    ]
    again = _takedown.run(workspace, Request(speakers=["p0"]), tracking_uri=uri)
    assert len(again.trained) == 2  # p0 was in that version too
    assert tracking.trained_on(uri, []) == []


def test_the_difference_of_the_versions_is_what_was_asked_for(workspace):
    found = take_down(workspace, speakers=["p1"])
    folder = history.folder_of(workspace / "data" / "dataset")
    told = history.diff(history.find(folder, found.before), history.find(folder, found.after))
    assert [entry.clip_id for entry in told.removed] == list(found.clips)
    assert [told.added, told.decided, told.changed, told.moved] == [[], [], [], []]


def test_nothing_named_is_an_error():
    with pytest.raises(InputError, match="give --speaker, --source or --clip"):
        Request()


def test_the_command_tells_what_it_did(workspace, root):
    found = subprocess.run(
        [sys.executable, "-m", "mssync", "takedown", "--speaker", "p1", "--params",
         root / "params.test.yaml"],
        cwd=workspace, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "3 clips taken down" in found.stdout
    assert "  p1/a.mp4\n" in found.stdout
    assert "dataset " in found.stdout


def versioned(folder, tmp_path):
    """Make a workspace a DVC project with its version in cache and remote."""
    versions.init_workspace(folder, cache=tmp_path / "cache")
    versions.dvc(folder, "remote", "add", "-d", "there", str(tmp_path / "remote"))
    versions.dvc(folder, "add", "data/landmarks", "data/audio", "data/dataset")
    versions.dvc(folder, "push")


def held(place, clips):
    """Files under a folder that hold landmarks or sound of one of the clips."""
    found = []
    for path in place.rglob("*"):
        if path.is_file() and path.read_bytes()[:4] == b"PAR1":
            rows = records.read(path, None)
            arrays = {"landmarks_TPD", "log_mel_AM"} & set(rows[0])
            if arrays and {row["clip_id"] for row in rows} & set(clips):
                found.append(path)
    return found


def test_a_purge_leaves_nothing_of_them_in_cache_remote_and_store(workspace, tmp_path, store):
    versioned(workspace, tmp_path)
    request = Request(speakers=["p1"])
    removed = _takedown.run(workspace, request, tracking_uri=NO_RUNS)
    ever = _takedown.clips_ever(workspace, request)
    assert ever == set(removed.clips)
    digest = "d" * 64
    store.adopt(make_file(store, b"media of p1"), sha256=digest)
    tombstones.append(workspace / "data" / "takedown.csv", {"sha256": digest})
    there = {place: held(tmp_path / place, ever) for place in ("cache", "remote")}
    assert all(there.values())
    files = {place: sum(p.is_file() for p in (tmp_path / place).rglob("*")) for place in there}
    purged = _purge.run(workspace, ever, store=store)
    assert purged.parts == sum(map(len, there.values()))
    assert purged.media == 1
    assert digest not in store
    for place, gone in there.items():
        assert not held(tmp_path / place, ever)
        left = sum(path.is_file() for path in (tmp_path / place).rglob("*"))
        assert left == files[place] - len(gone)
    folder = history.folder_of(workspace / "data" / "dataset")
    assert history.lost(folder) == _purge.lost(workspace, ever) == [removed.before]
    validate(*paths(workspace), workspace / "data" / "dataset")


def make_file(store, content):
    file = store.partial("x")
    file.write_bytes(content)
    return file


def test_the_bytes_of_a_source_are_named_unless_another_clip_of_it_stays(workspace):
    path = workspace / "data" / "provenance.parquet"
    digest = {"p1/b.mp4": "b" * 64}
    rows = records.read(path, records.PROVENANCE)
    told = [row | {"source_sha256": digest.get(row["clip_id"].split("#")[0], "")} for row in rows]
    records.write(path, told, records.PROVENANCE)
    take_down(workspace, clips=["p1/b.mp4#0-4000"])
    stones = workspace / "data" / "takedown.csv"
    assert Tombstones.read(stones).match_content("b" * 64) is None
    take_down(workspace, sources=["p1/b.mp4"])
    assert Tombstones.read(stones).match_content("b" * 64) == "on request"


def test_the_command_asks_before_it_purges(workspace, tmp_path, root):
    versioned(workspace, tmp_path)

    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "mssync", "takedown", "--speaker", "p1", "--purge", "--params",
             root / "params.test.yaml", *arguments],
            cwd=workspace, capture_output=True, text=True, check=False, input="n\n",
            env=os.environ | {"MSSYNC_MEDIA": str(tmp_path / "media")},
        )  # fmt: skip

    asked = command()
    assert asked.returncode == 1
    assert "can no longer be restored after the purge: dataset " in asked.stdout
    assert held(tmp_path / "remote", ["p1/a.mp4"])
    done = command("--yes")  # nothing is left to take down, but to purge
    assert done.returncode == 0, done.stderr
    assert not held(tmp_path / "remote", ["p1/a.mp4"])
    listed = subprocess.run(
        [sys.executable, "-m", "mssync", "versions"],
        cwd=workspace, capture_output=True, text=True, check=True,
    )  # fmt: skip
    purged = [line.split()[-1] == "purged" for line in listed.stdout.splitlines()[1:]]
    assert purged == [True, False]


TAKEDOWN = """
from pathlib import Path
from mssync.stages import _takedown

request = _takedown.Request(speakers=["p1"])
_takedown.run(Path({folder!r}), request, tracking_uri="sqlite:///nowhere.db")
"""


def test_a_killed_takedown_leaves_a_whole_version_and_is_finished_by_the_next(root, tmp_path):
    prepared = tmp_path / "prepared"
    prepare(prepared, root)

    def content(folder):
        version = dataset.load(folder / "data" / "dataset")
        return version.revision, sorted(clip.clip_id for clip in version.clips())

    old = content(prepared)
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(prepared, undisturbed)
    take_down(undisturbed, speakers=["p1"])
    new, rest = content(undisturbed), everywhere(undisturbed)
    assert old[0] != new[0]
    seen = set()
    for at in range(1, 100):
        folder = tmp_path / str(at)
        shutil.copytree(prepared, folder)
        ended = not killed(TAKEDOWN.format(folder=str(folder)), folder, at)
        assert content(folder) in (old, new)
        seen.add(content(folder)[0])
        if ended:
            break
        take_down(folder, speakers=["p1"])
        assert content(folder) == new
        assert everywhere(folder) == rest
        validate(*paths(folder), folder / "data" / "dataset")
        assert {path.name for path in parts(folder)} == {p.name for p in parts(undisturbed)}
    assert at > 15
    assert seen == {old[0], new[0]}
