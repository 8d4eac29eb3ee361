"""Generators run over far more sound than they were trained on, and what becomes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mssync.data.clips import Clip
from mssync.metrics import rollout
from mssync.metrics.rollout import DriftCurve
from mssync.metrics.sync import Evaluator
from mssync.models.generator import Generator
from mssync.params import Evaluate
from mssync.stages._scores import Excerpt, generate

LEAST_FRAMES = max(frames for frames, _ in rollout.BLOCKS.values())


@dataclass(frozen=True)
class Rollouts:
    """How every generator does over long sequences.

    Attributes:
        frames: Length of every sequence.
        left_out: Held-out speakers with too little sound.
        curves: System -> measure -> curve; measures are `lse_d.level0` and the like, and those of
            `rollout.MOVEMENT`.
    """

    frames: Sequence[int]
    left_out: int
    curves: Mapping[str, Mapping[str, DriftCurve]]


def roll_out(
    models: Mapping[str, Generator],
    clips: Sequence[Clip],
    evaluators: Sequence[Evaluator],
    params: Evaluate,
    *,
    kernel: int,
    device: torch.device,
) -> Rollouts:
    """Generate long sequences, and score them block by block beside the real clips.

    Args:
        models: Generators by name.
        clips: Held-out clips: sound and sources, and what is real.
        evaluators: Judges of all points, one a level.
        params: The stage's section.
        kernel: Width of the pyramid's box mean.
        device: Where models and evaluators live.
    """
    speakers = sorted({clip.speaker_id for clip in clips})
    joined = [
        join([clip for clip in clips if clip.speaker_id == speaker], at_most=params.rollouts.frames)
        for speaker in speakers
    ]
    long = [piece for piece in joined if len(piece.motion_TPD) >= LEAST_FRAMES]
    left_out, taken = len(joined) - len(long), long[: params.rollouts.speakers]
    real = [(clip.motion_TPD, clip.audio_AM) for clip in clips]
    curves = dict[str, dict[str, DriftCurve]]()
    for name, model in models.items() if taken else ():
        motions = [generate(model, [piece], device)[0] for piece in taken]
        pairs = [(motion, piece.audio_AM) for motion, piece in zip(motions, taken, strict=True)]
        curves[name] = rollout.movement_drift(motions, [motion for motion, _ in real])
        for evaluator in evaluators:
            found = rollout.sync_drift(pairs, real, evaluator, kernel=kernel, device=str(device))
            curves[name] |= {
                f"{score}.level{evaluator.level}": curve for score, curve in found.items()
            }
    return Rollouts([len(piece.motion_TPD) for piece in taken], left_out, curves)


def join(clips: Sequence[Clip], *, at_most: int) -> Excerpt:
    """One speaker's clips after one another, the longest first: few joins, each a jump."""
    ordered = sorted(clips, key=lambda clip: (-clip.frames, clip.clip_id))
    motion_TPD = np.concatenate([clip.motion_TPD for clip in ordered])[:at_most]
    audio_AM = np.concatenate([clip.audio_AM for clip in ordered])
    rows = len(audio_AM) // sum(clip.frames for clip in ordered) * len(motion_TPD)
    return Excerpt(ordered[0].clip_id, ordered[0].speaker_id, 0, motion_TPD, audio_AM[:rows])


def metrics(found: Rollouts, *, seed: int, resamples: int) -> dict[str, Any]:
    """Everything as JSON; the curves are means over the sequences that are so long."""
    return {
        "frames": list(found.frames),
        "speakers_left_out": found.left_out,
        "systems": {
            system: {
                measure: _entry(curve, seed=seed, resamples=resamples)
                for measure, curve in curves.items()
            }
            for system, curves in found.curves.items()
        },
    }


def _entry(curve: DriftCurve, *, seed: int, resamples: int) -> dict[str, Any]:
    change = curve.change(rng=np.random.default_rng([seed, 98]), resamples=resamples)
    low, high = curve.band or (None, None)
    return {
        "block_frames": curve.block_frames,
        "starts": curve.starts.tolist(),
        "mean": curve.mean.tolist(),
        "sequences": curve.counts.tolist(),
        "change": {"value": change.value, "low": change.low, "high": change.high, "n": change.n},
        "outside": curve.outside,
        "real": {
            "mean": float(curve.real.mean()) if len(curve.real) else None,
            "low": low,
            "high": high,
            "blocks": len(curve.real),
        },
    }
