"""How fast are landmarks and audio features extracted, and in how much memory?

    python -m bench.extract [--json FILE] [--clips FOLDER] [--full]

Everything runs on the same clips: a small demo corpus, or those of `FOLDER/sources.csv`.

* Decoding, landmarks, audio and the naive loop, in one process on one core, turn by turn.
* Both stages as the chain runs them, sandbox and parts included, on one core and on two, turn by
  turn. What a stage pays once, the start of its sandboxes with their imports, is told apart: the
  rates are those after it.
* 2D-FAN with random weights, boxes given, mirrored face too: the backend's batches beside
  face_alignment's own call for each frame; on a GPU too, where there is one. `fan_batch_ratio` is
  that of the batch size in `params.yaml`, on the CPU.
* Memory of both stages, their children included, on 3840 x 2160 px: ten seconds looped by copying
  the stream. Ten minutes of it take minutes to decode, so that the landmarks are stopped after a
  time, unless --full is given; how far they came is printed.

What the naive loop is: `bench/_naive.py`.
"""

import csv
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from bench._memory import held, tree
from mssync import records
from mssync.demo import corpus
from mssync.landmarks.detector import Backend, Box, Face, Landmarker, Picture, open_backend
from mssync.landmarks.follow import follow as follow_faces
from mssync.ledger import ATTEMPTS, read_attempts
from mssync.media import decode
from mssync.media.ffmpeg import executable
from mssync.media.store import MediaStore, digest
from mssync.params import ExtractLandmarks, Params, load
from mssync.stages import extract_audio, extract_landmarks

ROUNDS = 2
STAGE_CLIPS_S = 220.0  # 20 s of work where a core does 11 times real time
REAL_CLIPS_S = 60.0  # of a folder of real clips
LENGTHS_S = (10, 30, 600)  # of the large file
STOP_AFTER_S = 45.0

app = typer.Typer(add_completion=False)

Figures = dict[str, float]


# ---------------------------------------------------------------- the clips


@dataclass(frozen=True)
class _Clip:
    path: Path
    seconds: float
    frames: int


def _clips(folder: Path, real: Path | None) -> list[Path]:
    """The clips that everything runs on."""
    if real is None:
        spec = corpus.CorpusSpec(speakers=6, clips_per_speaker=1, test_speakers=0, val_speakers=0)
        made = corpus.make(folder / "corpus", spec, workers=os.cpu_count() or 1)
        return sorted(made.glob("media/*/*.mp4"))
    with (real / "sources.csv").open(newline="") as file:
        listed = [real / row["source"] for row in csv.DictReader(file)]
    if not listed:
        raise SystemExit(f"{real / 'sources.csv'} lists no clip")
    lengths = [decode.read_clock(path).duration_s for path in listed]
    every = max(1, round(sum(lengths) / REAL_CLIPS_S))
    return listed[::every]


def _measured(paths: Sequence[Path]) -> list[_Clip]:
    clocks = [decode.read_clock(path) for path in paths]
    return [
        _Clip(path, clock.duration_s, clock.source_frames)
        for path, clock in zip(paths, clocks, strict=True)
    ]


def _params() -> Params:
    shipped = load(Path("params.yaml"))
    section = shipped.extract_landmarks.model_copy(update={"backend": "mediapipe"})
    return shipped.model_copy(update={"extract_landmarks": section})


def _pin(cores: int) -> None:
    """Keep this process and its children to so many cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


# ---------------------------------------------------------------- one core, one process


def _steps(paths: Sequence[Path]) -> Figures:
    """Seconds that each way takes for all clips, and where those of the landmarks go."""
    from bench import _naive

    params = _params()
    ways: dict[str, Callable[[Path], object]] = {
        "decode": partial(_decode, params=params.extract_landmarks),
        "landmarks": partial(extract_landmarks.follow, params=params.extract_landmarks),
        "audio": partial(extract_audio.listen, params=params.extract_audio),
        "naive_landmarks": _naive.landmarks,
        "naive_mesh_alone": partial(_naive.landmarks, detector=False),
        "naive_audio": _naive.audio,
    }
    for way in ways.values():
        way(paths[0])
    seconds = Figures()
    for name, way in ways.items():
        started = time.perf_counter()
        for path in paths:
            way(path)
        seconds[f"{name}_s"] = time.perf_counter() - started
    return seconds | _where_it_goes(paths, params.extract_landmarks)


def _decode(path: Path, *, params: ExtractLandmarks) -> None:
    for _ in _frames(path, params):
        pass


def _frames(path: Path, params: ExtractLandmarks) -> Iterator[decode.Frame]:
    return decode.frames(
        path,
        decode.read_clock(path),
        max_fps_hz=params.max_source_fps_hz,
        max_side_px=params.max_side_px,
        max_pixels=params.max_pixels,
        threads=1,
    )


class _Watched:
    """A backend whose calls are timed and counted."""

    shared = False

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.identity = backend.identity
        self.detector_s, self.points_s = 0.0, 0.0
        self.searched, self.followed = 0, 0

    def detect(self, pictures: Sequence[Picture]) -> list[list[Box]]:
        """See `Backend`."""
        started = time.perf_counter()
        found = self._backend.detect(pictures)
        self.detector_s += time.perf_counter() - started
        self.searched += len(pictures)
        return found

    def landmarker(self) -> Landmarker:
        """See `Backend`."""
        return _WatchedLandmarker(self, self._backend.landmarker())


class _WatchedLandmarker:
    def __init__(self, watched: _Watched, landmarker: Landmarker) -> None:
        self._watched = watched
        self._landmarker = landmarker

    def points(
        self, pictures: Sequence[Picture], boxes: Sequence[Box], others: Sequence[Sequence[Box]]
    ) -> list[Face | None]:
        """See `Landmarker`."""
        started = time.perf_counter()
        found = self._landmarker.points(pictures, boxes, others)
        self._watched.points_s += time.perf_counter() - started
        self._watched.followed += len(pictures)
        return found


def _where_it_goes(paths: Sequence[Path], params: ExtractLandmarks) -> Figures:
    """Shares of the landmarks' time, and how seldom the detector is called."""
    decoding_s, detector_s, points_s, searched, frames = 0.0, 0.0, 0.0, 0, 0

    def timed(path: Path) -> Iterator[decode.Frame]:
        nonlocal decoding_s, frames
        shown = _frames(path, params)
        while True:
            started = time.perf_counter()
            frame = next(shown, None)
            decoding_s += time.perf_counter() - started
            if frame is None:
                return
            frames += 1
            yield frame

    started = time.perf_counter()
    for path in paths:
        with open_backend(params, device="cpu") as backend:
            watched = _Watched(backend)
            follow_faces(timed(path), watched, params)
        detector_s += watched.detector_s
        points_s += watched.points_s
        searched += watched.searched
    total_s = time.perf_counter() - started
    shares = {
        "decoding": decoding_s,
        "detector": detector_s,
        "points": points_s,
        "shots_quality": total_s - decoding_s - detector_s - points_s,
    }
    return {f"share_{name}": seconds / total_s for name, seconds in shares.items()} | {
        "detector_calls_saved": 1 - searched / frames
    }


# ---------------------------------------------------------------- the stages


def _workspace(folder: Path, clips: Sequence[tuple[str, Path]]) -> None:
    """A manifest of clips by id, and a store that holds them."""
    store, digests = MediaStore(folder / "store"), dict[Path, str]()
    for _, path in clips:
        if path not in digests:
            sha256 = digest(path)
            target = store.path(sha256)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path.resolve())
            digests[path] = sha256
    texts = dict.fromkeys(("speaker_id", "split", "language", "licence", "tags"), "")
    empty = texts | {"av_offset_ms": math.nan}
    rows = [
        {"clip_id": clip_id, "sha256": digests[path], "bytes": path.stat().st_size} | empty
        for clip_id, path in clips
    ]
    records.write(folder / "manifest.parquet", rows, records.MANIFEST)


def _stage(folder: Path, name: str, workers: int) -> dict[str, Any]:
    """Run a stage on the folder's manifest: its attempts, and when it ended."""
    params, store = _params(), MediaStore(folder / "store")
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        where = folder / "manifest.parquet", Path(temporary) / name, Path(temporary) / "ledger"
        if name == "landmarks":
            counts = extract_landmarks.run(
                *where, params.extract_landmarks, store=store, workers=workers, device="cpu"
            )
        else:
            counts = extract_audio.run(*where, params.extract_audio, store=store, workers=workers)
        ended = time.time()
        attempts = read_attempts(where[2] / ATTEMPTS)
    times = {attempt.clip_id: (attempt.started, attempt.duration_s) for attempt in attempts}
    return {"counts": counts, "times": times, "ended": ended}


def measure_speed(folder: Path, clips: Sequence[_Clip]) -> Figures:
    """The ways one by one, and both stages on one core and on two: the best of some rounds."""
    folder.mkdir()
    repeats = max(1, round(STAGE_CLIPS_S / sum(clip.seconds for clip in clips)))
    named = {
        f"{turn:03}/{number:03}": clip
        for turn in range(repeats)
        for number, clip in enumerate(clips)
    }
    _workspace(folder, [(name, clip.path) for name, clip in named.items()])
    lengths = {name: clip.seconds for name, clip in named.items()}
    rounds = list[Figures]()
    for _ in range(ROUNDS):
        found = Figures(_child("steps", *(clip.path for clip in clips), cores=1))
        for cores in range(1, min(2, _cores()) + 1):
            for name in ("landmarks", "audio"):
                said = _child("stage", folder, name, cores, cores=cores)
                rate, start_s = _steady(said, lengths, workers=cores)
                found[f"stage_{name}_{cores}_s"] = sum(clip.seconds for clip in clips) / rate
                found[f"stage_{name}_{cores}_start_s"] = start_s
        rounds.append(found)
    best = {name: min(found[name] for found in rounds) for name in rounds[0] if name.endswith("_s")}
    return rounds[-1] | best


def _steady(
    said: Mapping[str, Any], lengths: Mapping[str, float], *, workers: int
) -> tuple[float, float]:
    """Seconds of clip a second once all workers have started, and what the start took."""
    if said["counts"]["clips_rejected"]:
        raise SystemExit(f"{said['counts']['clips_rejected']:.0f} clips were rejected")
    spans = [
        (started, started + taken, lengths[name])
        for name, (started, taken) in sorted(said["times"].items(), key=lambda one: one[1])
    ]
    first, ended = max(end for _, end, _ in spans[:workers]), said["ended"]
    done_s = sum(
        length * max(0.0, end - max(start, first)) / max(end - start, 1e-9)
        for start, end, length in spans
    )
    rate = done_s / (ended - first)
    start, end, length = spans[0]
    return rate, end - start - length * workers / rate


# ---------------------------------------------------------------- memory


def measure_memory(folder: Path, clip: Path, *, full: bool) -> Figures:
    """Peak of both stages on a large picture, by length."""
    folder.mkdir()
    piece = folder / "piece.mp4"
    filters = "scale=3840:2160:force_original_aspect_ratio=decrease,pad=3840:2160:-1:-1:gray"
    _ffmpeg("-stream_loop", -1, "-i", clip, "-t", LENGTHS_S[0], "-vf", filters, "-r", 25,
            "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", piece)  # fmt: skip
    figures = Figures()
    for seconds in LENGTHS_S:
        place = folder / str(seconds)
        place.mkdir()
        loops = seconds // LENGTHS_S[0] - 1
        long = place / "long.mp4"
        _ffmpeg("-stream_loop", loops, "-i", piece, "-c", "copy", long)
        _workspace(place, [("long", long)])
        for name in ("landmarks", "audio"):
            stopped = name == "landmarks" and seconds == LENGTHS_S[-1] and not full
            stop_s = STOP_AFTER_S if stopped else float("inf")
            peak_mb, share = _peak(place, name, stop_s=stop_s)
            figures[f"peak_mb_{name}_{seconds}s"] = peak_mb
            if stopped:
                figures["share_of_10min_read"] = share
        long.unlink()
    return figures


def _peak(folder: Path, name: str, *, stop_s: float) -> tuple[float, float]:
    """Largest memory of a stage and its children, in MB, and the share of the media it read."""
    media = next((folder / "store").glob("objects/*/*")).resolve()
    with (folder / "log").open("w") as log:
        process = _start("stage", folder, name, 1, cores=2, log=log)
        root, peak, started = psutil.Process(process.pid), 0, time.perf_counter()
        while process.poll() is None and time.perf_counter() - started < stop_s:
            peak = max(peak, held(root))
            time.sleep(0.05)
        if process.poll() is None:
            share = max(_read_share(one, media) for one in tree(root))
            process.kill()
            process.communicate()
            return peak / 1e6, share
    if process.returncode:
        raise SystemExit(f"the stage failed: {(folder / 'log').read_text()[-2000:]}")
    process.communicate()
    return peak / 1e6, 1.0


def _read_share(process: psutil.Process, media: Path) -> float:
    try:
        places = [file.position for file in process.open_files() if Path(file.path) == media]
    except psutil.Error:
        return 0.0
    return max(places, default=0) / media.stat().st_size


# ---------------------------------------------------------------- children


def _start(*arguments: object, cores: int, log: Any = None) -> "subprocess.Popen[str]":  # noqa: ANN401
    """This module in a process of its own, kept to so many cores."""
    command = [sys.executable, "-m", "bench.extract", "--cores", str(cores), *map(str, arguments)]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ | threads
    )


def _child(*arguments: object, cores: int) -> dict[str, Any]:
    with tempfile.TemporaryFile("w+") as log, _start(*arguments, cores=cores, log=log) as process:
        said, _ = process.communicate()
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"bench.extract {arguments[0]} failed: {log.read()[-2000:]}")
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return answer


def _ffmpeg(*arguments: object) -> None:
    command = [executable(), "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    subprocess.run(command, check=True)


@app.command(hidden=True)
def steps(clips: list[Path]) -> None:
    """Measure one core, one process."""
    typer.echo(json.dumps(_steps(clips)))


@app.command(hidden=True)
def stage(folder: Path, name: str, workers: int) -> None:
    """Run one stage."""
    typer.echo(json.dumps(_stage(folder, name, workers)))


@app.command(hidden=True)
def fan(folder: Path, device: str) -> None:
    """Measure 2D-FAN."""
    from bench import _fan

    typer.echo(json.dumps(_fan.measure(folder, _params().extract_landmarks, device)))


# ---------------------------------------------------------------- what is printed


def _rates(found: Figures, clips: Sequence[_Clip]) -> dict[str, tuple[float, float]]:
    """Frames a second and seconds of clip a second of work, on one core."""
    ways = {
        "decode": ("decode",),
        "landmarks": ("landmarks",),
        "audio": ("audio",),
        "stage landmarks": ("stage_landmarks_1",),
        "stage audio": ("stage_audio_1",),
        "whole stage": ("stage_landmarks_1", "stage_audio_1"),
        "  on two cores": ("stage_landmarks_2", "stage_audio_2"),
        "naive landmarks": ("naive_landmarks",),
        "  without detector": ("naive_mesh_alone",),
        "naive audio": ("naive_audio",),
        "naive loop": ("naive_landmarks", "naive_audio"),
    }
    seconds, frames = sum(clip.seconds for clip in clips), sum(clip.frames for clip in clips)
    rates = dict[str, tuple[float, float]]()
    for title, parts in ways.items():
        if all(f"{part}_s" in found for part in parts):
            work_s = sum(found[f"{part}_s"] for part in parts)
            rates[title] = frames / work_s, seconds / work_s
    return rates


def measure_fan(folder: Path) -> Figures:
    """2D-FAN on one core; on a GPU too, where there is one."""
    import torch

    found = Figures(_child("fan", folder, "cpu", cores=1))
    if torch.cuda.is_available():
        found |= _child("fan", folder, "cuda", cores=_cores())
    return found


def _tell(rates: Mapping[str, tuple[float, float]], found: Figures) -> None:
    typer.echo(f"{'one core':<22}{'frames/s':>10}{'x real time':>14}")
    for name, (frames_per_s, factor) in rates.items():
        typer.echo(f"{name:<22}{frames_per_s:>10.0f}{factor:>14.1f}")
    shares = [f"{name.removeprefix('share_')} {share:.0%}"
              for name, share in found.items() if name.startswith("share_")
              and not name.startswith("share_of")]  # fmt: skip
    typer.echo(f"landmarks, of their time: {', '.join(shares)}")
    if "share_of_10min_read" in found:
        typer.echo(
            f"large file: landmarks were stopped after {found['share_of_10min_read']:.0%} of ten "
            "minutes (--full: to the end)"
        )
    typer.echo("")


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    json_file: Annotated[Path | None, typer.Option("--json", help="File to write.")] = None,
    clips: Annotated[
        Path | None,
        typer.Option(envvar="MSSYNC_TEST_CLIPS", help="Folder of real clips with sources.csv."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Follow all ten minutes.")] = False,
    cores: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Measure, print, and write JSON where it is asked for."""
    if context.invoked_subcommand:
        _pin(cores)
        return
    typer.echo(f"load before: {os.getloadavg()[0]:.1f} of {_cores()} cores")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = _clips(folder, clips)
        measured = _measured(paths)
        found = measure_speed(folder / "speed", measured)
        found |= measure_fan(folder / "fan")
        found |= measure_memory(folder / "large", paths[0], full=full)
    rates = _rates(found, measured)
    whole, batch = rates["whole stage"][1], _params().extract_landmarks.fan_batch
    headline = {
        "realtime_factor_per_core": whole,
        "speedup_2_cores": rates["  on two cores"][1] / whole if _cores() > 1 else float("nan"),
        "naive_ratio": whole / rates["naive loop"][1],
        "fan_batch_ratio": found[f"fan_cpu_batch_{batch}_ratio"],
        "peak_mb_10min_4k": max(
            found[f"peak_mb_{name}_{LENGTHS_S[-1]}s"] for name in ("landmarks", "audio")
        ),
    }
    _tell(rates, found)
    figures = headline | found
    for name, value in figures.items():
        typer.echo(f"{name:<40}{value:>10.2f}")
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    app()
