"""A definition that changes gets a new version: these are the values of the present one."""

import numpy as np
import pytest
import torch

from mssync.data.clips import Clip
from mssync.landmarks import ibug
from mssync.metrics.version import METRIC_VERSION
from mssync.stages import _scores
from tests.judges import CurveJudge

FRAMES = 160

VALUES = {
    1: {
        "lse_d.all.level0": 0.180397,
        "lse_d.all.level1": 0.330592,
        "lse_d.all.level2": 0.647588,
        "lse_d.all.level3": 1.15951,
        "lse_c.all.level0": 1.77386,
        "lse_c.all.level1": 1.53546,
        "lse_c.all.level2": 1.03586,
        "lse_c.all.level3": 0.304182,
        "distance_at_0.all.level0": 0.180397,
        "distance_at_0.all.level1": 0.330592,
        "distance_at_0.all.level2": 0.647588,
        "distance_at_0.all.level3": 1.15951,
        "offset_s.all.level0": 0,
        "offset_s.all.level1": 0,
        "offset_s.all.level2": 0,
        "offset_s.all.level3": 0,
        "abs_offset_s.all.level0": 0,
        "abs_offset_s.all.level1": 0,
        "abs_offset_s.all.level2": 0,
        "abs_offset_s.all.level3": 0,
        "head_speed_loudness": 0.0802278,
        "mouth_opening_loudness": 0.0016429,
        "rigidity": 0.0640727,
        "fd_frame": 0.0543953,
        "fd_time": 0.000712659,
        "fd_motion": 9.91902e-05,
    },
}


def curve(number, points):
    """A sum of waves: no library's random numbers take part."""
    phase = 2 * np.pi * np.arange(points) / points
    return sum(np.sin(phase * (number + 2) * k + k) / k for k in range(1, 6))


@pytest.fixture
def measured(tiny):
    face_PD = np.stack([np.cos(np.arange(68) * 1.7), np.sin(np.arange(68) * 2.3)], axis=1)
    face_PD -= face_PD.mean()
    pieces, moved = [], []
    for number in range(4):
        motion_TPD = face_PD + curve(number, FRAMES)[:, None, None]
        audio_AM = np.repeat(curve(number, 4 * FRAMES)[:, None], 26, axis=1)
        wrong = 0.1 * curve(number + 3, FRAMES)[:, None, None] * np.ones((68, 2))
        wrong[:, list(ibug.RIGID)[::2], 0] *= 2
        names = (f"c{number}", f"s{number}")
        given = (motion_TPD.astype(np.float32), audio_AM.astype(np.float32))
        pieces.append(_scores.Excerpt(*names, 0, *given))
        moved.append((motion_TPD + wrong).astype(np.float32))
    scores = _scores.score(
        {"generated": moved},
        pieces,
        [Clip(p.clip_id, p.speaker_id, "train", p.motion_TPD, p.audio_AM) for p in pieces],
        {"all": [CurveJudge(level) for level in range(4)]},
        tiny.evaluate,
        kernel=7,
        seed=0,
        device=torch.device("cpu"),
    )
    values = {name: float(np.mean(found["generated"])) for name, found in scores.sequences.items()}
    frechet = scores.frechet["generated"]
    return values | {name: found["distance"] for name, found in frechet.items()}


def test_the_same_motion_gets_the_values_of_this_version_of_the_metrics(measured):
    told = "a metric gives another value: raise METRIC_VERSION and write its values down here"
    assert METRIC_VERSION in VALUES, told
    assert {name: measured[name] for name in VALUES[METRIC_VERSION]} == pytest.approx(
        VALUES[METRIC_VERSION], rel=1e-3, abs=1e-6
    ), told


def test_every_metric_by_sequence_has_a_value_written_down(measured):
    assert set(measured) == set(VALUES[METRIC_VERSION])
