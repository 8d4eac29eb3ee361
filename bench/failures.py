"""How often do the failure detectors cry wolf on real clips, and what do they miss?

    python -m bench.failures DATASET [--syncers FOLDER] [--frames 75] [--rate 0.05] [--json FILE]

Real clips of any split are cut into sequences, and their speakers into four parts. The sequences of
each part are judged by detectors that were calibrated on the other three: as they are, which counts
the false alarms, and with every failure planted at a third of their length, which counts what is
found, and how far from the plant the first bad frame is said to be. Synchrony is judged where
evaluators are given; they should know these recordings' kind, but not their speakers.
"""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from mssync.cli import guarded
from mssync.data import dataset
from mssync.landmarks import ibug
from mssync.metrics import failures, sync
from mssync.metrics.failures import Detectors, Take
from mssync.metrics.sync import Audio, Motion
from mssync.params import load
from mssync.points import POINT_SETS
from mssync.stages._scores import Excerpt, clips_of, excerpts
from mssync.trained.networks import load_kernel, load_syncers

PARTS = 4
SHAKEN = 0.02  # inter-ocular distances, every other frame
TORN = 0.5  # inter-ocular distances that the chin is pulled away
WANDERED = 0.03  # inter-ocular distances a frame
LATE_FRAMES = 12

Plant = Callable[[Motion, Audio, int], tuple[Motion, Audio]]


def stop_head(motion_TPD: Motion, audio_AM: Audio, at: int) -> tuple[Motion, Audio]:
    """The whole face holds its last frame but for the lips."""
    held_TPD, head = motion_TPD.copy(), list(POINT_SETS["no_lips"].indices)
    held_TPD[at:, head] = motion_TPD[at, head]
    return held_TPD, audio_AM


def shake_head(motion_TPD: Motion, audio_AM: Audio, at: int) -> tuple[Motion, Audio]:
    """The whole face trembles."""
    shaken_TPD = motion_TPD.copy()
    shaken_TPD[at::2, :, 0] += np.float32(SHAKEN * _scale(motion_TPD))
    return shaken_TPD, audio_AM


def tear_face(motion_TPD: Motion, audio_AM: Audio, at: int) -> tuple[Motion, Audio]:
    """The chin leaves the face."""
    torn_TPD = motion_TPD.copy()
    torn_TPD[at:, 6:11, 1] += np.float32(TORN * _scale(motion_TPD))
    return torn_TPD, audio_AM


def wander(motion_TPD: Motion, audio_AM: Audio, at: int) -> tuple[Motion, Audio]:
    """The face walks out of the picture."""
    step = WANDERED * _scale(motion_TPD)
    gone_T = np.maximum(0, np.arange(len(motion_TPD)) - at) * step
    return (motion_TPD + gone_T[:, None, None]).astype(np.float32), audio_AM


def stop_lips(motion_TPD: Motion, audio_AM: Audio, at: int) -> tuple[Motion, Audio]:
    """The lips keep their shape, and go with the head."""
    lips = list(POINT_SETS["lips"].indices)
    stopped_TPD = motion_TPD.copy()
    rigid_T1D = motion_TPD[:, list(ibug.RIGID)].mean(axis=1, keepdims=True)
    stopped_TPD[at:, lips] = (motion_TPD[at, lips] - rigid_T1D[at]) + rigid_T1D[at:]
    return stopped_TPD, audio_AM


def delay(motion_TPD: Motion, audio_AM: Audio, at: int) -> tuple[Motion, Audio]:
    """The motion hangs for a moment, and is late from then on."""
    late_TPD = motion_TPD.copy()
    late_TPD[at:] = motion_TPD[
        np.maximum(at - LATE_FRAMES, 0) : len(motion_TPD) - min(LATE_FRAMES, at)
    ][-len(motion_TPD[at:]) :]
    return late_TPD, audio_AM


PLANTS: dict[str, tuple[str, Plant]] = {
    "the head stops": (failures.COLLAPSE, stop_head),
    "the head trembles": (failures.COLLAPSE, shake_head),
    "the chin leaves the face": (failures.UNREALISTIC, tear_face),
    "the face wanders off": (failures.DRIFT, wander),
    "the lips stop": (failures.FROZEN, stop_lips),
    "the motion is late": (failures.OFF_SYNC, delay),
}


def _scale(motion_TPD: Motion) -> float:
    return float(ibug.interocular_distance(motion_TPD[0]))


def takes_of(
    pieces: Sequence[Excerpt],
    plant: Plant | None,
    judge: sync.Evaluator | None,
    *,
    kernel: int,
) -> list[Take]:
    """Sequences as they are, or with a failure from a third of their length on."""
    pairs = [
        plant(*piece.pair, len(piece.motion_TPD) // 3) if plant else piece.pair for piece in pieces
    ]
    distances = sync.window_distances(pairs, judge, kernel=kernel) if judge else [None] * len(pairs)
    return [
        Take(motion_TPD, audio_AM, distance_WS, piece.speaker_id)
        for piece, (motion_TPD, audio_AM), distance_WS in zip(pieces, pairs, distances, strict=True)
    ]


def measure(
    real: Sequence[Take],
    planted: dict[str, list[Take]],
    *,
    axes: int,
    window_frames: int,
    rate: float,
) -> dict[str, Any]:
    """Shares of failures among real sequences by kind, and among planted ones by plant."""
    speakers = sorted({take.speaker_id for take in real})
    part_of = {
        speaker: number % PARTS
        for number, speaker in enumerate(np.random.default_rng(0).permutation(speakers))
    }
    alarms: dict[str, list[bool]] = defaultdict(list)
    found: dict[str, list[int | None]] = defaultdict(list)
    for part in range(PARTS):
        detectors = failures.calibrate(
            [take for take in real if part_of[take.speaker_id] != part],
            axes=axes,
            window_frames=window_frames,
            false_alarm_rate=rate,
        )
        for number, take in enumerate(real):
            if part_of[take.speaker_id] == part:
                _judge(
                    detectors,
                    take,
                    {name: planted[name][number] for name in planted},
                    alarms,
                    found,
                )
    return {
        "sequences": len(real),
        "speakers": len(speakers),
        "false_alarms": {
            kind: {"share": statistics.fmean(told), "n": len(told)} for kind, told in alarms.items()
        },
        "found": {
            name: {
                "kind": PLANTS[name][0],
                "share": statistics.fmean(frames is not None for frames in told),
                "median_error_frames": statistics.median(
                    [frames for frames in told if frames is not None] or [math.nan]
                ),
                "n": len(told),
            }
            for name, told in found.items()
        },
    }


def _judge(
    detectors: Detectors,
    take: Take,
    planted: dict[str, Take],
    alarms: dict[str, list[bool]],
    found: dict[str, list[int | None]],
) -> None:
    for kind, verdict in detectors.verdicts(take).items():
        if verdict.failed is not None:
            alarms[kind].append(verdict.failed)
    for name, spoilt in planted.items():
        verdict = detectors.verdicts(spoilt)[PLANTS[name][0]]
        if verdict.failed is not None:
            first = verdict.first_bad_frame
            found[name].append(None if first is None else first - len(take.motion_TPD) // 3)


def main(
    folder: Annotated[Path, typer.Argument(help="Dataset of real clips.")],
    syncers: Annotated[Path | None, typer.Option(help="Folder of train_syncers.")] = None,
    frames: Annotated[int, typer.Option(min=20, help="Length of the sequences.")] = 75,
    rate: Annotated[float, typer.Option(min=0.001, max=0.5, help="False alarms asked for.")] = 0.05,
    out: Annotated[Path | None, typer.Option("--json", help="File to write.")] = None,
) -> None:
    """Measure false alarms and detections of the failure detectors."""
    section = load(Path("params.yaml")).evaluate.failures
    version = dataset.load(folder)
    clips = [clip for split in ("train", "val", "test") for clip in clips_of(version, split)]
    pieces = excerpts(clips, frames=frames, at_most=10_000)
    judge, kernel = None, 1
    if syncers:
        evaluators = syncers / "evaluators" / "all"
        judge, kernel = load_syncers(evaluators, torch.device("cpu"))[0], load_kernel(evaluators)
    real = takes_of(pieces, None, judge, kernel=kernel)
    plants = {
        name: plant for name, (kind, plant) in PLANTS.items() if judge or kind != failures.OFF_SYNC
    }
    results = measure(
        real,
        {name: takes_of(pieces, plant, judge, kernel=kernel) for name, plant in plants.items()},
        axes=section.shape_axes,
        window_frames=section.window_frames,
        rate=rate,
    )
    text = json.dumps(results, indent=1)
    typer.echo(text)
    if out:
        out.write_text(text + "\n")


if __name__ == "__main__":
    guarded(lambda: typer.run(main))
