"""Which clips have failed: detectors calibrated on training clips, and their verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from mssync.data.clips import Clip
from mssync.metrics import failures, sync
from mssync.metrics.failures import KINDS, Detectors, Take, Verdict
from mssync.metrics.sync import Evaluator
from mssync.params import Evaluate
from mssync.render.payload import Failure
from mssync.stages._scores import Excerpt, Motion, excerpts

ANY = "any"


@dataclass(frozen=True)
class Judged:
    """What the detectors say of one held-out piece, system by system.

    Attributes:
        piece: The piece.
        verdicts: System -> kind -> verdict; the ground truth is among the systems, and what it
            fails of is a false alarm.
    """

    piece: Excerpt
    verdicts: Mapping[str, Mapping[str, Verdict]]

    def failed(self, system: str) -> dict[str, Verdict]:
        """The failures of one system, by kind."""
        return {kind: found for kind, found in self.verdicts[system].items() if found.failed}


def judge(
    motions: Mapping[str, Sequence[Motion]],
    pieces: Sequence[Excerpt],
    training: Sequence[Clip],
    evaluator: Evaluator,
    params: Evaluate,
    *,
    kernel: int,
    device: torch.device,
) -> tuple[Detectors, list[Judged]]:
    """Calibrate the detectors on training clips, and judge every system and the ground truth.

    Args:
        motions: System -> its motion of each piece.
        pieces: Held-out pieces.
        training: Training clips; cut into sequences as long as the pieces, but for clips that are
            shorter.
        evaluator: The judge of level 0, all points.
        params: The stage's section.
        kernel: Width of the pyramid's box mean.
        device: Where the evaluator lives.
    """
    frames, known = params.frames, params.training_clips
    real = excerpts(training, frames=frames, at_most=known) or [
        Excerpt(clip.clip_id, clip.speaker_id, 0, clip.motion_TPD, clip.audio_AM)
        for clip in training
    ]

    def takes(of: Sequence[Excerpt], made: Sequence[Motion]) -> list[Take]:
        pairs = [(motion, piece.audio_AM) for motion, piece in zip(made, of, strict=True)]
        distances = sync.window_distances(pairs, evaluator, kernel=kernel, device=str(device))
        return [
            Take(*pair, distance_WS, piece.speaker_id)
            for pair, distance_WS, piece in zip(pairs, distances, of, strict=True)
        ]

    detectors = failures.calibrate(
        takes(real, [piece.motion_TPD for piece in real]),
        axes=params.failures.shape_axes,
        window_frames=params.failures.window_frames,
        false_alarm_rate=params.failures.false_alarm_rate,
    )
    truth = {sync.CEILING: [piece.motion_TPD for piece in pieces]}
    verdicts = {
        name: [detectors.verdicts(take) for take in takes(pieces, made)]
        for name, made in (truth | dict(motions)).items()
    }
    return detectors, [
        Judged(piece, {name: found[index] for name, found in verdicts.items()})
        for index, piece in enumerate(pieces)
    ]


def summary(judged: Sequence[Judged], system: str) -> dict[str, Any]:
    """One system's failures as JSON, by kind and of any: share, count, and that of real clips."""

    def counts(kind: str, of: str) -> dict[str, Any]:
        told = [
            [found.failed for name, found in one.verdicts[of].items() if kind in (ANY, name)]
            for one in judged
        ]
        decided = [any(each) for each in told if any(one is not None for one in each)]
        return {
            "share": float(np.mean(decided)) if decided else None,
            "failed": sum(decided),
            "judged": len(decided),
        }

    return {
        kind: counts(kind, system) | {sync.CEILING: counts(kind, sync.CEILING)["share"]}
        for kind in (*KINDS, ANY)
    }


def shown(judged: Sequence[Judged], systems: Sequence[str]) -> list[dict[str, list[Failure]]]:
    """For the page: what is wrong with each system's motion, a mapping a piece."""
    return [
        {
            system: [
                Failure(kind.replace("_", " "), verdict.first_bad_frame or 0)
                for kind, verdict in one.failed(system).items()
            ]
            for system in systems
        }
        for one in judged
    ]


def verdicts(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Every verdict as JSON."""
    return [
        {
            "clip_id": one.piece.clip_id,
            "speaker_id": one.piece.speaker_id,
            "start": one.piece.start,
            "systems": {
                system: {kind: asdict(verdict) for kind, verdict in found.items()}
                for system, found in one.verdicts.items()
            },
        }
        for one in judged
    ]


def limits(detectors: Detectors) -> dict[str, Any]:
    """What real clips allow, by kind, as JSON."""
    return {kind: asdict(limit) for kind, limit in detectors.limits.items()}
