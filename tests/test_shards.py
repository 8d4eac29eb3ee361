"""Shards: a list cut, and what was made of its parts put together."""

import shutil

import numpy as np
import pytest

from mssync import records, shards
from mssync.errors import InputError, StageFailedError
from mssync.ledger import ATTEMPTS, DECISIONS, read_attempts, read_decisions
from mssync.lists.sources import read_sources
from mssync.media.store import MediaStore
from mssync.parts import read_parts
from mssync.stages import download_videos, extract_audio
from mssync.steps import Shard


def write_list(path, rows, header="source,speaker_id,start_s,end_s"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def clips_of(workspace, count):
    """Shard of every clip."""
    return {
        source.clip_id: index
        for index in range(count)
        for source in read_sources(
            Shard(index, count).folder(workspace) / shards.SOURCES, base="/", may_be_empty=True
        )
    }


def test_every_clip_is_in_one_shard_and_reads_back_the_same(tmp_path):
    rows = [f"video_{n}.mp4,person_{n % 3},{n}.25,{n + 2}" for n in range(40)]
    listed = write_list(tmp_path / "list.csv", [*rows, '"a, b.mp4",x,,'])
    counts = shards.cut(listed, tmp_path / "out", 4, base="/videos")
    whole = {source.clip_id: source for source in read_sources(listed, base="/videos")}
    found = {
        source.clip_id: source
        for index in range(4)
        for source in read_sources(
            Shard(index, 4).folder(tmp_path / "out") / shards.SOURCES, base="/videos"
        )
    }
    assert sum(counts) == len(whole) == 41
    assert found == whole
    assert min(counts) > 0


def test_a_list_that_grows_moves_no_clip(tmp_path):
    rows = [f"video_{n}.mp4,p,," for n in range(30)]
    shards.cut(write_list(tmp_path / "a.csv", rows[:20]), tmp_path / "a", 8, base="/")
    shards.cut(write_list(tmp_path / "b.csv", rows[::-1]), tmp_path / "b", 8, base="/")
    before, after = clips_of(tmp_path / "a", 8), clips_of(tmp_path / "b", 8)
    assert before.items() <= after.items()


def test_what_is_cut_from_one_video_is_fetched_by_one_shard(tmp_path):
    rows = [f"long.mp4,p,{n},{n + 1}" for n in range(20)]
    shards.cut(write_list(tmp_path / "list.csv", rows), tmp_path / "out", 8, base="/")
    assert len(set(clips_of(tmp_path / "out", 8).values())) == 1


def test_a_pin_holds_in_all_shards(tmp_path):
    header = "source,speaker_id,split"
    rows = ["video_0.mp4,p,test", *(f"video_{n}.mp4,p," for n in range(1, 20))]
    shards.cut(write_list(tmp_path / "list.csv", rows, header), tmp_path / "out", 4, base="/")
    splits = {
        source.split
        for index in range(4)
        for source in read_sources(
            Shard(index, 4).folder(tmp_path / "out") / shards.SOURCES, base="/", may_be_empty=True
        )
    }
    assert splits == {"test"}


def test_a_wrong_list_is_refused_before_anything_is_cut(tmp_path):
    listed = write_list(tmp_path / "list.csv", ["a.mp4,p,5,2"])
    with pytest.raises(InputError, match=r"end_s \(2\) must come after start_s \(5\)"):
        shards.cut(listed, tmp_path / "out", 2, base="/")
    assert not (tmp_path / "out").exists()


COUNT = 5


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_corpus, tiny):
    """A list of which one source is missing, downloaded and its sound extracted, in five shards."""
    folder = tmp_path_factory.mktemp("shards")
    store = MediaStore(folder / "store")
    listed = folder / "list.csv"
    listed.write_text((small_corpus / "sources.csv").read_text() + "none.mp4,nobody,train,,\n")
    base = str(small_corpus / "media")

    def run(workspace, sources, *, whole):
        ledger, manifest = workspace / "ledger", workspace / shards.MANIFEST
        download_videos.run(
            sources,
            manifest,
            ledger / "download_videos",
            tiny.download_videos,
            store=store,
            workers=1,
            base=base,
            whole=whole,
        )
        for stage in ("extract_audio", "extract_landmarks"):
            # the sound stands for both: what is gathered does not depend on what is in a part
            extract_audio.run(
                manifest,
                workspace / shards.PARTS[stage],
                ledger / stage,
                tiny.extract_audio,
                store=store,
                workers=1,
                whole=whole,
            )

    run(folder / "whole", listed, whole=True)
    workspace = folder / "workspace"
    counts = shards.cut(listed, workspace, COUNT, base=base)
    assert 0 in counts
    for index in range(COUNT):
        shard = Shard(index, COUNT).folder(workspace)
        run(shard, shard / shards.SOURCES, whole=False)
    return workspace, folder / "whole"


@pytest.fixture
def extracted(made, tmp_path):
    """The five shards to gather, and what the whole list gave."""
    shutil.copytree(made[0], tmp_path / "workspace")
    return tmp_path / "workspace", made[1]


def gather(workspace, tiny):
    return shards.gather(
        workspace,
        COUNT,
        download_videos=tiny.download_videos,
        extract_landmarks=tiny.extract_landmarks,
        extract_audio=tiny.extract_audio,
    )


def test_gathered_shards_are_what_the_whole_list_gives(extracted, tiny):
    workspace, whole = extracted
    counts = gather(workspace, tiny)
    assert counts["download_videos.clips_rejected"] == 1
    assert (workspace / shards.MANIFEST).read_bytes() == (whole / shards.MANIFEST).read_bytes()
    for stage in shards.STAGES:
        found = read_decisions(workspace / "ledger" / stage / DECISIONS)
        wanted = read_decisions(whole / "ledger" / stage / DECISIONS)
        assert [(d.clip_id, d.reason) for d in found] == [(d.clip_id, d.reason) for d in wanted]
        attempts = read_attempts(workspace / "ledger" / stage / ATTEMPTS)
        assert len(attempts) == len(wanted)
    sounds = [
        {row["clip_id"]: row["log_mel_AM"] for row in read_parts(folder / "data/audio", None)}
        for folder in (workspace, whole)
    ]
    assert sounds[0].keys() == sounds[1].keys()
    for clip in sounds[0]:
        np.testing.assert_array_equal(sounds[0][clip], sounds[1][clip])


def test_parts_are_linked_and_those_that_went_away_go(extracted, tiny):
    workspace, _ = extracted
    gather(workspace, tiny)
    parts = sorted((workspace / "data/audio").glob("part-*"))
    assert all(part.stat().st_nlink == 2 for part in parts)
    records.write(parts[0].with_name("part-stale.parquet"), [], records.AUDIO)
    gather(workspace, tiny)
    assert sorted((workspace / "data/audio").glob("part-*")) == parts


def test_whether_enough_survives_is_decided_over_all_shards(extracted, tiny):
    workspace, _ = extracted
    strict = tiny.download_videos.model_copy(update={"min_success_ratio": 0.95})
    with pytest.raises(StageFailedError, match="8 of 9 clips survive, at least 95%"):
        gather(workspace, tiny.model_copy(update={"download_videos": strict}))


def test_a_shard_without_its_outputs_is_named(extracted, tiny):
    workspace, _ = extracted
    missing = Shard(2, COUNT).folder(workspace) / shards.MANIFEST
    missing.unlink()
    with pytest.raises(InputError, match=str(missing)):
        gather(workspace, tiny)
