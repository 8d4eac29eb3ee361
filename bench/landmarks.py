"""How near to the truth does each landmark backend come, and how fast is it?

    python -m bench.landmarks [--json FILE]

On a small demo corpus, whose true landmarks are known. A backend whose library or weights are
missing is left out, and what it lacks is printed. Errors and jitter are in per cent of the
inter-ocular distance, of raw landmarks: `build_dataset` smooths them later.
"""

import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from mssync.demo import accuracy, corpus
from mssync.demo.accuracy import Accuracy
from mssync.errors import InputError
from mssync.params import ExtractLandmarks, load
from mssync.stages.extract_landmarks import follow

BACKENDS = ("mediapipe", "dlib", "face_alignment")
SPEC = corpus.CorpusSpec(speakers=6, clips_per_speaker=1, test_speakers=0, val_speakers=0)


@dataclass(frozen=True)
class _Found:
    accuracy: Accuracy
    frames_per_s: float


def measure(backend: str, made: Path) -> _Found:
    """Follow the face through the clips of a corpus with one backend.

    Args:
        backend: Its name.
        made: The corpus.

    Raises:
        InputError: If its library or weights are missing.
    """
    params = load(Path("params.yaml")).extract_landmarks.model_copy(update={"backend": backend})
    paths = _clips(made, backend)
    follow(paths[0], params=params)  # so that what is loaded once is loaded
    return _measure(paths, made, params)


def _clips(made: Path, backend: str) -> list[Path]:
    paths = sorted((made / "media").glob("*/*.mp4"))
    # 2D-FAN takes half a second a frame on a CPU.
    return paths[:1] if backend == "face_alignment" and not torch.cuda.is_available() else paths


def _measure(paths: Sequence[Path], made: Path, params: ExtractLandmarks) -> _Found:
    started = time.perf_counter()
    rows = [follow(path, params=params) for path in paths]
    seconds = time.perf_counter() - started
    truths = [
        accuracy.true_landmarks(made, path.relative_to(made / "media").as_posix()) for path in paths
    ]
    pairs = [(row, true) for row, true in zip(rows, truths, strict=True) if true is not None]
    frames = sum(len(true) for _, true in pairs)
    return _Found(accuracy.measure(pairs), frames / seconds)


def _figures(backend: str, found: _Found) -> dict[str, float]:
    result = found.accuracy
    spreads = {"error": result.error, **{f"error_{name}": result.regions[name]
                                         for name in result.regions}}  # fmt: skip
    figures = {f"{name}_mean": spread.mean for name, spread in spreads.items()}
    figures |= {f"{name}_p95": spread.p95 for name, spread in spreads.items()}
    figures |= {
        "mouth_correlation": result.mouth_correlation,
        "jitter": result.jitter,
        "true_jitter": result.true_jitter,
        "frames_per_s": found.frames_per_s,
        "clips": float(result.clips),
    }
    return {f"{backend}_{name}": value for name, value in figures.items()}


def _tell(found: dict[str, _Found]) -> None:
    header = "".join(f"{name:>24}" for name in found)
    typer.echo(f"{'error: mean, 95th percentile':<30}{header}")
    for region in ("all points", *accuracy.REGIONS):
        cells = ""
        for each in found.values():
            spread = each.accuracy.regions.get(region, each.accuracy.error)
            cells += f"{spread.mean:>15.2f}{spread.p95:>9.2f}"
        typer.echo(f"{region:<30}{cells}")
    for title, values in (
        ("mouth opening: correlation", [e.accuracy.mouth_correlation for e in found.values()]),
        ("jitter at rest", [e.accuracy.jitter for e in found.values()]),
        ("  of the truth", [e.accuracy.true_jitter for e in found.values()]),
        ("frames a second", [e.frames_per_s for e in found.values()]),
        ("clips", [e.accuracy.clips for e in found.values()]),
    ):
        typer.echo(f"{title:<30}" + "".join(f"{value:>24.3g}" for value in values))


def main(
    json_file: Annotated[Path | None, typer.Option("--json", help="File to write.")] = None,
) -> None:
    """Measure, print, and write JSON where it is asked for."""
    found = dict[str, _Found]()
    with tempfile.TemporaryDirectory() as temporary:
        made = corpus.make(Path(temporary) / "corpus", SPEC, workers=os.cpu_count() or 1)
        for backend in BACKENDS:
            try:
                found[backend] = measure(backend, made)
            except InputError as error:
                typer.echo(f"{backend}: left out: {error}", err=True)
    _tell(found)
    if json_file:
        figures = {
            name: value
            for backend, each in found.items()
            for name, value in _figures(backend, each).items()
        }
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
