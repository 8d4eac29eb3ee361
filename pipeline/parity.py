"""Parity: DVC, subprocesses and containers make the same of the same clips.

    python -m pipeline.parity [--engine dvc --engine subprocess --engine docker]

Each engine starts from an empty workspace, with a media store and an MLflow store of its own.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from mssync import records, tracking
from mssync.cli import guarded
from mssync.data import dataset
from mssync.demo import chain, corpus
from mssync.errors import InputError, StageFailedError
from mssync.params import load
from mssync.parts import read_parts
from pipeline import local

TOLERANCE = 1e-6
CLIPS = 8
SHARDS = 3
# The demo corpus at its smallest: eight clips of seven people, in all three splits.
CORPUS = corpus.CorpusSpec(
    speakers=7, clips_per_speaker=1, clip_s=4.0, long_clip_s=8.0, test_speakers=1, val_speakers=1
)


@dataclass(frozen=True)
class Outcome:
    """What an engine made.

    Attributes:
        revision: Of the dataset.
        landmarks: Raw landmarks by clip, flat.
        metrics: Every number of `metrics.json`.
    """

    revision: str
    landmarks: dict[str, NDArray[np.float32]]
    metrics: dict[str, float]


def read_outcome(workspace: Path) -> Outcome:
    """What a finished workspace holds.

    Raises:
        InputError: If the chain did not end there.
    """
    return Outcome(
        revision=dataset.load_metadata(workspace / "data" / "dataset")["revision"],
        landmarks={
            row["clip_id"]: row["landmarks_TPD"]
            for row in read_parts(workspace / "data" / "landmarks", records.LANDMARKS)
        },
        metrics=tracking.numbers(
            json.loads((workspace / "evaluation" / "metrics.json").read_text())
        ),
    )


def differences(first: Outcome, other: Outcome) -> list[str]:
    """Where two engines disagree; empty: nowhere."""
    found = []
    if first.revision != other.revision:
        found.append(f"dataset revision {first.revision[:12]}, {other.revision[:12]}")
    found += [
        f"landmarks of {clip}"
        for clip in sorted(first.landmarks.keys() | other.landmarks.keys())
        if not np.array_equal(first.landmarks.get(clip, ()), other.landmarks.get(clip, ()))
    ]
    for name in sorted(first.metrics.keys() | other.metrics.keys()):
        one, two = first.metrics.get(name), other.metrics.get(name)
        if one is None or two is None or abs(one - two) > TOLERANCE:
            found.append(f"{name} {one}, {two}")
    return found


def run_dvc(params: Path, media: Path, folder: Path) -> Path:
    """The chain by DVC, in a project of its own."""
    project = Path(__file__).parents[1]
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copyfile(project / name, folder / name)
    shutil.copyfile(params, folder / "params.yaml")
    (folder / "src").symlink_to(project / "src")
    return chain.run_sources(folder, media / "sources.csv", name="parity")


def run_graph(runner: local.Runner, image: str) -> Callable[[Path, Path, Path], Path]:
    """The graph by one of Kubeflow's local runners."""

    def engine(params: Path, media: Path, folder: Path) -> Path:
        where = local.Where(folder / "workspace", runner, image)
        local.run(load(params), str(media / "sources.csv"), where, shards=SHARDS)
        return where.workspace

    return engine


def main(
    engine: Annotated[list[str], typer.Option(help="dvc, subprocess, docker.")] = [  # noqa: B006 - read only
        "dvc",
        "subprocess",
        "docker",
    ],
    params: Annotated[Path, typer.Option(help="Parameter file.")] = Path("params.test.yaml"),
    image: Annotated[str, typer.Option(envvar="MSSYNC_IMAGE")] = "mssync:dev",
) -> None:
    """Run the chain on eight clips by every engine, and compare what comes out."""
    engines = {
        "dvc": run_dvc,
        "subprocess": run_graph("subprocess", image),
        "docker": run_graph("docker", image),
    }
    if len(set(engine)) < 2:
        raise InputError(f"parity is of two engines at least, found {', '.join(engine)}")
    unknown = [name for name in engine if name not in engines]
    if unknown:
        raise InputError(f"--engine is one of {', '.join(engines)}, found {', '.join(unknown)}")
    with tempfile.TemporaryDirectory() as temporary:
        media = corpus.make(Path(temporary) / "corpus", CORPUS, workers=2) / "media"
        shutil.copyfile(media.parent / "sources.csv", media / "sources.csv")
        outcomes = dict[str, Outcome]()
        for name in engine:
            folder = Path(temporary) / name
            folder.mkdir()
            started = time.monotonic()
            with _stores_in(folder):
                outcomes[name] = read_outcome(engines[name](params, media, folder))
            typer.echo(f"{name}: {time.monotonic() - started:.0f} s")
    _report(outcomes)


def _report(outcomes: dict[str, Outcome]) -> None:
    (first, reference), *others = outcomes.items()
    typer.echo(
        f"{first}: dataset {reference.revision[:12]}, landmarks of {len(reference.landmarks)} "
        f"clips, {len(reference.metrics)} numbers"
    )
    if len(reference.landmarks) != CLIPS or not reference.metrics:
        raise StageFailedError(f"{first} made landmarks of {len(reference.landmarks)} clips")
    wrong = dict[str, list[str]]()
    for name, outcome in others:
        wrong[name] = differences(reference, outcome)
        typer.echo(f"{name}: {'the same' if not wrong[name] else 'DIFFERENT'}")
    lines = [f"  {name}: {line}" for name, found in wrong.items() for line in found]
    if lines:
        raise StageFailedError("\n".join([f"not the same as {first}:", *lines]))


@contextmanager
def _stores_in(folder: Path) -> Iterator[None]:
    """Media and runs go to stores of this engine's own."""
    before: dict[str, Any] = dict(os.environ)
    os.environ["MSSYNC_MEDIA"] = str(folder / "media")
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    guarded(lambda: typer.run(main))
