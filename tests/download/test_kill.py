"""The stage is killed at random moments of its downloads and started again until it is done."""

import random
import subprocess
import sys
import time
from collections import Counter

import pytest

from mssync import records
from mssync.ledger import DECISIONS, read_decisions
from tests.download.faults import serving

KILLS = 12
STAGE = """
import sys
from pathlib import Path
from mssync import log
from mssync.download.access import Access
from mssync.download.addresses import Policy
from mssync.media.store import MediaStore
from mssync.params import load
from mssync.stages import download_videos

log.set_up()
root, folder = map(Path, sys.argv[1:])
params = load(root / "params.test.yaml").download_videos
download_videos.run(
    folder.parent / "sources.csv", folder / "manifest.parquet", folder / "ledger",
    params.model_copy(update={"min_success_ratio": 0.0, "connections": 4}),
    store=MediaStore(folder / "store"), workers=1,
    access=Access(policy=Policy(mirrors=("127.0.0.1",))),
)
"""


def start(root, folder):
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", STAGE, str(root), str(folder)]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(command, stderr=log, cwd=root)


def killed(root, folder, web, after_s):
    """Whether the stage could be killed so long after its first request."""
    before = len(web.asked())
    process = start(root, folder)
    while process.poll() is None and len(web.asked()) == before:
        time.sleep(0.01)
    try:
        process.wait(timeout=after_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


def finish(root, folder):
    process = start(root, folder)
    assert process.wait(timeout=120) == 0, (folder / "log").read_text()


def outputs(folder):
    names = ("manifest.parquet", f"ledger/{DECISIONS}")
    objects = sorted(
        str(file.relative_to(folder))
        for file in (folder / "store" / "objects").rglob("*")
        if file.is_file()
    )
    return [(folder / name).read_bytes() for name in names], objects


@pytest.fixture
def footage(tmp_path, small_corpus):
    """Files of which every one has bytes of its own, and one has those of another."""
    folder = tmp_path / "footage"
    folder.mkdir()
    clips = sorted((small_corpus / "media").rglob("*.mp4"))
    for number in range(16):
        note = number.to_bytes(4) + bytes(400_000)
        box = (8 + len(note)).to_bytes(4) + b"free" + note  # what players skip
        (folder / f"{number}.mp4").write_bytes(clips[number % 4].read_bytes() + box)
    (folder / "again.mp4").write_bytes((folder / "3.mp4").read_bytes())
    return folder


def test_killed_again_and_again_it_ends_as_if_undisturbed(root, tmp_path, footage):
    """And no byte is sent twice but those that were under way."""
    rng = random.Random(7)
    with serving(folder=footage) as web:
        links = [web.file_url(f"{number}.mp4") for number in range(16)]
        rows = [f"{link},speaker_{number}," for number, link in enumerate(links)]
        rows += [f"{links[0]},speaker_0,1", f"{web.file_url('again.mp4')},x,"]
        rows += [f"{web.url(path)},y," for path in ("404", "410/a", "403", "page")]
        text = "\n".join(["source,speaker_id,start_s", *rows]) + "\n"
        (tmp_path / "sources.csv").write_text(text)
        finish(root, tmp_path / "undisturbed")
        wanted, sent = outputs(tmp_path / "undisturbed"), web.sent()
        asked = Counter(one.path for one in web.asked())

        web.forget()
        web.pace_s = 0.15  # so that a kill finds something under way
        folder, kills = tmp_path / "killed", 0
        while kills < KILLS and killed(root, folder, web, rng.uniform(0.0, 1.2)):
            kills += 1
        assert kills > 2, "the stage was done before it could be killed"
        finish(root, folder)
        assert outputs(folder) == wanted

        # what was under way may come again from where it was, at most a connection's buffers
        assert any("range" in one.headers for one in web.asked())
        wasted = web.sent() - sent
        assert wasted <= kills * 4 * 300_000
        again = Counter(one.path for one in web.asked())
        decided_at_once = {"/404", "/410/a", "/page"}
        for path in decided_at_once:
            assert again[path] <= asked[path] + kills
        # a kill between the last two steps of a download may leave the note of its part
        left = [file for file in (folder / "store" / "partial").glob("*") if not file.suffix]
        assert left == []

    decisions = read_decisions(folder / "ledger" / DECISIONS)
    assert Counter(decision.reason for decision in decisions) == {
        "": 17, "duplicate": 1, "gone": 2, "forbidden": 1, "not_a_video": 1,
    }  # fmt: skip
    assert len(records.read(folder / "manifest.parquet", records.MANIFEST)) == 17
