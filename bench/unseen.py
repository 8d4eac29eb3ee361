"""What do guides learn that holds for people they never saw?

    python -m bench.unseen DATASET [--seeds 5] [--set key=value ...] [--json FILE]

For each seed a third of a dataset's speakers is held out, and of the others one in six decides when
to stop; at most five clips of a speaker are taken. The guides are trained as `train_syncers` of
`params.yaml` says, with what `--set` changes. On the clips of the third: does a window find its own
audio among 48 (chance 0.021), and is the offset of a whole clip's sound read within a frame (level
0; the sound of the dataset is taken to be in place)?
"""

import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from mssync.cli import guarded
from mssync.data import dataset
from mssync.data.clips import Clip
from mssync.data.pack import pack_clips
from mssync.device import prepare
from mssync.metrics.sync import distance_curves
from mssync.params import Params, TrainSyncers, load, override
from mssync.tracking import NullTracker
from mssync.trained.networks import load_syncers
from mssync.training.group import Group
from mssync.training.syncers import train_guides

CLIPS_PER_SPEAKER = 5
HELD_OUT, VALIDATING = 1 / 3, 1 / 6
HIT_FRAMES = 1

Scores = dict[str, float]


def hold_out(clips: Sequence[Clip], seed: int) -> dict[str, list[Clip]]:
    """Split clips by speaker, at random: a third to `test`, a sixth of the rest to `val`.

    Args:
        clips: Of any split.
        seed: Of the draw, which also chooses the clips of speakers that have too many.
    """
    by_speaker = defaultdict(list)
    for clip in clips:
        by_speaker[clip.speaker_id].append(clip)
    rng = np.random.default_rng(seed)
    speakers = rng.permutation(sorted(by_speaker))
    tested = round(HELD_OUT * len(speakers))
    validating = tested + round(VALIDATING * (len(speakers) - tested))
    splits: dict[str, list[Clip]] = {"train": [], "val": [], "test": []}
    for place, speaker in enumerate(speakers):
        split = "test" if place < tested else "val" if place < validating else "train"
        found = by_speaker[speaker]
        chosen = rng.permutation(len(found))[:CLIPS_PER_SPEAKER]
        splits[split] += [replace(found[index], split=split) for index in sorted(chosen)]
    return splits


def measure(clips: Sequence[Clip], params: Params, section: TrainSyncers, *, seed: int) -> Scores:
    """Train guides on two thirds of the speakers, and score them on the others.

    Args:
        clips: All there are.
        params: The `run` section is taken.
        section: How guides are trained.
        seed: Of the split, the weights and the draws.
    """
    device = prepare(params.run)
    splits = hold_out(clips, seed)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        metrics = train_guides(
            {split: pack_clips(found) for split, found in splits.items()},
            section,
            key="",
            seed=seed,
            device=device,
            threads=params.run.workers,
            tracker=NullTracker(),
            out=out,
            group=Group(),
        )
        guides = load_syncers(out / "guides", device)
    scores: Scores = {}
    for guide in guides:
        prefix = f"guide.level{guide.level}.test.cross_clip"
        if f"{prefix}.accuracy" in metrics:
            scores[f"level{guide.level}"] = metrics[f"{prefix}.accuracy"]
            scores[f"level{guide.level}_chance"] = metrics[f"{prefix}.chance"]
            scores[f"level{guide.level}_windows"] = metrics[f"{prefix}.windows"]
    curves = distance_curves(
        [(clip.motion_TPD, clip.audio_AM) for clip in splits["test"]],
        guides[0],
        kernel=section.kernel,
        device=str(device),
    )
    hits = [abs(curve.offset_samples) <= HIT_FRAMES for curve in curves]
    scores["offset_hits"] = sum(hits) / len(hits)
    scores["test_clips"], scores["train_clips"] = len(hits), len(splits["train"])
    return scores


def summarise(runs: Sequence[Scores]) -> dict[str, dict[str, float]]:
    """Mean and sample standard deviation over seeds of each score that every run has."""
    names = [name for name in runs[0] if all(name in run for run in runs)]
    return {
        name: {
            "mean": statistics.fmean(run[name] for run in runs),
            "std": statistics.stdev(run[name] for run in runs) if len(runs) > 1 else 0.0,
        }
        for name in names
    }


def main(
    data: Annotated[Path, typer.Argument(metavar="DATASET", help="Dataset folder.")],
    *,
    seeds: Annotated[int, typer.Option(min=1, help="How many ways to hold people out.")] = 5,
    settings: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change of train_syncers.")
    ] = [],  # noqa: B006 - typer reads it, nobody changes it
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers.")] = None,
) -> None:
    """Train on two thirds of the people, score on the rest, several times."""
    params = load(Path("params.yaml"))
    section = override(params.train_syncers, settings, name="train_syncers")
    clips = list(dataset.load(data).clips())
    runs = []
    for seed in range(seeds):
        runs.append(measure(clips, params, section, seed=seed))
        typer.echo(f"seed {seed}  {_line(runs[-1])}")
    found: dict[str, Any] = summarise(runs)
    for name, score in found.items():
        typer.echo(f"{name:16}  {score['mean']:8.3f} +- {score['std']:.3f}")
    if json_file:
        json_file.write_text(json.dumps({"seeds": runs, "summary": found}, indent=1) + "\n")


def _line(scores: Scores) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in scores.items())


if __name__ == "__main__":
    torch.set_num_threads(1)
    guarded(lambda: typer.run(main))
