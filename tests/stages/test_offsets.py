"""Offsets of the sound as a trained syncer hears them, planted and found again."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from mssync.data import dataset
from mssync.data.clips import Clip
from mssync.errors import InputError
from mssync.params import BuildDataset, load
from mssync.selection.offset import UNKNOWN, find
from mssync.stages import _offsets
from mssync.stages._training import packs
from mssync.tracking import NullTracker
from mssync.trained.networks import load_syncer
from mssync.training.group import Group
from mssync.training.syncers import train_guides
from tests import handmade
from tests.talkers import talking_clip

ROOT = Path(__file__).parents[2]
FRAMES, LATE = 250, 6
SIZES = {
    "motion_stem": 24,
    "motion_widths": [24, 24, 24, 32],
    "audio_stem": 8,
    "audio_widths": [16, 16, 24, 32],
    "embedding": 16,
    "cross_clip_group": 24,
    "groups_per_step": 2,
    "learning_rate": 0.003,
    "augment": False,
    "guide_steps": [400, 0, 0, 0],
}


def embeddings(lag_frames, drift_frames, *, unit):
    """Motion windows and audio windows of which each one fits best where it was taken from."""
    rng = np.random.default_rng(0)
    audio = gaussian_filter1d(rng.normal(size=(2 * FRAMES, 16)), 2, axis=0)
    audio /= audio.std()
    place = np.arange(FRAMES) / (FRAMES - 1) - 0.5
    at = 2 * (np.arange(FRAMES) + lag_frames + drift_frames * place)
    motion = audio[np.clip(np.round(at).astype(int), 0, len(audio) - 1)]
    motion = motion + rng.normal(0, 0.5, motion.shape)
    both = [torch.tensor(x, dtype=torch.float32) for x in (motion, audio)]
    return [torch.nn.functional.normalize(x, dim=1) for x in both] if unit else both


@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize(("lag", "drift"), [(0, 0), (-10, 0), (10, 0), (3, 8), (-5, -12)])
def test_lag_and_drift_are_read_off_the_agreement(cosine, lag, drift):
    motion, audio = embeddings(lag, drift, unit=cosine)
    found = find(_offsets.Agreement(motion, audio, cosine=cosine), FRAMES)
    assert found.offset_ms == pytest.approx(40 * lag, abs=25)
    assert found.drift_ms_per_s == pytest.approx(1000 * drift / FRAMES, abs=3)
    assert found.confidence > 0.9


def test_blocks_of_windows_change_nothing(monkeypatch):
    motion, audio = embeddings(2, 0, unit=True)
    lags = np.arange(-30, 30.1, 0.5)
    whole = _offsets.Agreement(motion, audio, cosine=True)(lags, 3.3)
    monkeypatch.setattr(_offsets, "_BLOCK_WINDOWS", 37)
    np.testing.assert_allclose(_offsets.Agreement(motion, audio, cosine=True)(lags, 3.3), whole)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tiny):
    """A dataset of talkers, one of whom is heard late, and a guide that was trained on it."""
    folder = tmp_path_factory.mktemp("late")
    build(folder, tiny, {})
    params = load_params(folder)
    train_guides(
        packs(folder / "data" / "dataset"),
        params.train_syncers.model_copy(update=SIZES),
        key="key",
        seed=0,
        device=torch.device("cpu"),
        threads=1,
        tracker=NullTracker(),
        out=folder / "syncers",
        group=Group(),
    )
    return folder


def load_params(folder):
    return load(folder / "params.yaml")


def build(folder, tiny, listed_ms):
    clips = {}
    for number in range(14):
        whole = talking_clip(number, FRAMES + LATE)
        late = LATE if number == 13 else 0
        clips[f"p{number:02d}/a"] = {
            "frames": FRAMES,
            "points": 50 + 200 * whole.motion_TPD[late : FRAMES + late],
            "log_mel": whole.audio_AM[: 4 * FRAMES],
            "listed_ms": listed_ms.get(f"p{number:02d}/a", math.nan),
        }
    folder.mkdir(exist_ok=True)
    handmade.write_inputs(folder, clips, pinned={"p12": "val", "p13": "test"})
    (folder / "data" / "manifest.parquet").write_bytes((folder / "manifest.parquet").read_bytes())
    rows = "".join(f"{clip},{clip.split('/')[0]}\n" for clip in clips)
    (folder / "data" / "sources.csv").write_text("source,speaker_id\n" + rows)
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    section = tiny.build_dataset.model_dump() | {
        "max_av_offset_ms": 640.0,
        "max_av_drift_ms_per_s": 1000.0,
        "val_ratio": 0,
        "test_ratio": 0,
    }
    handmade.build(folder, BuildDataset(**section))


def command(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "mssync", "offsets", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_planted_shifts_are_heard_in_people_whom_the_syncer_never_saw(workspace):
    syncer = load_syncer(workspace / "syncers" / "guides" / "level0", torch.device("cpu"))
    rows = {row["clip_id"]: row for row in dataset.load(workspace / "data" / "dataset").rows}
    side = rows["p12/a"]["crop_side_px"]
    missed = []
    for number in range(100, 104):
        whole = talking_clip(number, FRAMES)
        motion = whole.motion_TPD * np.float32(200 / side)
        for late in range(-10, 11, 2):
            first, end = max(0, late), min(FRAMES, FRAMES + late)
            clip = Clip(
                "a",
                "a",
                "test",
                motion[first:end],
                whole.audio_AM[4 * (first - late) : 4 * (end - late)],
            )
            found = _offsets.offset_of(clip, syncer, torch.device("cpu"))
            missed.append(abs(found.offset_ms - 40 * late) > 40)
    assert np.mean(missed) <= 0.05


def test_a_short_clip_tells_nothing(workspace):
    syncer = load_syncer(workspace / "syncers" / "guides" / "level0", torch.device("cpu"))
    clip = talking_clip(0, 39)
    assert _offsets.offset_of(clip, syncer, torch.device("cpu")) == UNKNOWN


def test_a_late_clip_is_written_into_the_list_and_the_next_version_makes_up_for_it(
    workspace, tiny, tmp_path
):
    told = command(workspace, "--syncer", "syncers", "--out", "next.csv", "--json", "all.json")
    assert told.returncode == 0, told.stderr
    assert "next.csv: 1 rows have a new av_offset_ms" in told.stdout
    every = {each["clip_id"]: each for each in json.loads((workspace / "all.json").read_text())}
    assert every["p13/a"]["offset_ms"] == pytest.approx(40 * LATE, abs=40)
    with (workspace / "next.csv").open() as file:
        listed = {
            row["source"]: float(row["av_offset_ms"])
            for row in csv.DictReader(file)
            if row["av_offset_ms"]
        }
    assert list(listed) == ["p13/a"]
    build(tmp_path / "next", tiny, listed)
    rows = {row["clip_id"]: row for row in dataset.load(tmp_path / "next/data/dataset").rows}
    assert rows["p13/a"]["audio_shift_rows"] == pytest.approx(4 * LATE, abs=4)
    again = _offsets.by_syncer(
        tmp_path / "next/data/dataset", workspace / "syncers", device=torch.device("cpu")
    )
    (late,) = [each for each in again if each.clip_id == "p13/a"]
    assert late.left_ms == pytest.approx(0, abs=40)
    assert late.offset_ms == pytest.approx(40 * LATE, abs=40)


def test_without_a_syncer_the_estimates_of_the_build_are_told(workspace):
    told = command(workspace, "--json", "estimates.json")
    assert told.returncode == 0, told.stderr
    every = json.loads((workspace / "estimates.json").read_text())
    assert len(every) == 14
    assert "av_offset_ms" not in told.stdout  # nothing is written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--syncer", "nowhere"], "nowhere holds no syncer of level 0"),
        (["--dataset", "nowhere"], "nowhere holds no dataset"),
        (["--sources", "none.csv", "--out", "x.csv"], "none.csv does not exist"),
    ],
)
def test_what_is_missing_is_named(workspace, arguments, message):
    told = command(workspace, *arguments)
    assert (told.returncode, message in told.stderr) == (1, True), told.stderr
    assert "Traceback" not in told.stderr


def test_a_syncer_of_another_level_is_refused(workspace, tmp_path):
    folder = tmp_path / "level1"
    folder.mkdir()
    for file in (workspace / "syncers/guides/level0").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    metadata = json.loads((folder / "checkpoint.json").read_text())
    metadata["config"]["level"] = 1
    (folder / "checkpoint.json").write_text(json.dumps(metadata))
    with pytest.raises(InputError, match="is a syncer of level 1, expected level 0"):
        _offsets.by_syncer(workspace / "data/dataset", folder, device=torch.device("cpu"))
