"""What an iteration of the generator's training and a generated frame cost, at the paper's size.

    python -m bench.train [--json FILE] [--device cpu|cuda] [--precision float32|bfloat16]
        [--part training ...]

Ours and a plain reference (`bench/_reference.py`) of the same weights take turns, so that whatever
else the machine does disturbs both; medians are printed. The machine's limits are measured in the
same run: arithmetic by a large product, memory by the sum of a large buffer. The precision is that
of our training; the reference's is float32. Weights are untrained
and clips are random walks, which changes no time.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import torch
import typer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench._memory import watch
from bench._reference import ReferenceGenerator, ReferenceTrainer
from mssync import device as devices
from mssync.data.clips import Clip
from mssync.data.pack import Pack, pack_clips
from mssync.data.sequences import Batch
from mssync.landmarks.ibug import POINTS
from mssync.models.generator import Generator
from mssync.models.inference import STEP, Prepared, prepare
from mssync.models.syncer import Syncer
from mssync.params import Params, load
from mssync.records import write_text
from mssync.timing import ROWS_PER_FRAME
from mssync.training.generator import Trainer
from mssync.training.graph import EAGER_CALLS
from mssync.training.group import Group
from mssync.training.syncers import build_syncer

ROOT = Path(__file__).parents[1]
BATCH = 16
COUNTED_BATCH = 2  # operations are counted at this one: they are proportional
TRAINING_S = 30.0
GENERATING_S = 15.0
FRAMES = 120
LONG_FRAMES = 1000
STREAMED_FRAMES = 10_000
SETTLED_FRAMES = 1000
BUFFER_BYTES = 512 * 2**20
MATRIX = {"cpu": 2048, "cuda": 8192}

app = typer.Typer(add_completion=False)


class Precision(StrEnum):
    """Of our training."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Part(StrEnum):
    """What can be measured alone."""

    GENERATION = "generation"
    STREAMING = "streaming"
    TRAINING = "training"


def _clips(params: Params) -> Pack:
    rng = np.random.default_rng(0)
    clips = []
    for number in range(8):
        steps_TPD = rng.normal(0, 0.004, (200, POINTS, 2))
        motion_TPD = rng.uniform(0.3, 0.7, (1, POINTS, 2)) + steps_TPD.cumsum(axis=0)
        audio_AM = rng.normal(-6, 3, (800, params.extract_audio.mel_bands))
        clips.append(
            Clip(str(number), str(number), "train", motion_TPD.astype("f4"), audio_AM.astype("f4"))
        )
    return pack_clips(clips)


def _guides(params: Params) -> list[Syncer]:
    bands = params.extract_audio.mel_bands
    return [
        build_syncer(
            params.train_syncers,
            level=level,
            points=range(POINTS),
            guide=True,
            mel_bands=bands,
        )
        for level in range(4)
    ]


def _trainers(
    device: torch.device, precision: Precision
) -> tuple[Trainer, ReferenceTrainer, Callable[[int], Batch]]:
    """Ours, the reference with the same weights, and what draws a batch of a size for both."""
    params = load(ROOT / "params.cluster.yaml")
    pack = _clips(params)
    section, kernel = params.train_generator, params.train_syncers.kernel
    loop = section.loop.model_copy(update={"precision": precision})
    section = section.model_copy(update={"loop": loop})
    ours = Trainer(
        pack.statistics,
        pack_clips([]),
        _guides(params),
        section,
        kernel=kernel,
        seed=0,
        device=device,
        group=Group(),
    )
    reference = ReferenceTrainer(ours.generator, ours.critics, ours.guides, section, kernel=kernel)
    sequences = ours.sequences(pack)
    return ours, reference, lambda size: sequences.draw(0, batch=size, seed=0, audio_range=None)


def _timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _in_turn(
    works: dict[str, Callable[[], object]],
    device: torch.device,
    *,
    seconds: float,
    settle: bool = False,
) -> dict[str, list[float]]:
    """Seconds of each work, round after round, for about as long as is given; at least once.

    With `settle`, each is done twice in a round, and the second time counts: the first one finds
    caches and memory as another work left them, which nobody does who trains.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    started = time.perf_counter()
    while not found[next(iter(works))] or time.perf_counter() - started < seconds:
        for name, work in works.items():
            if settle:
                _timed(work, device)
            found[name].append(_timed(work, device))
    return found


def _limits(device: torch.device, precision: Precision) -> dict[str, float]:
    """Arithmetic and memory: the best of several tries, and of one thread and all."""
    size = MATRIX[device.type]
    matrix = torch.randn(size, size, device=device, dtype=getattr(torch, precision))
    buffer = torch.randn(BUFFER_BYTES // 4, device=device)
    threads = torch.get_num_threads()
    bandwidth = 0.0
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        fastest_s = min(_timed(buffer.sum, device) for _ in range(8))
        bandwidth = max(bandwidth, BUFFER_BYTES / fastest_s)
    fastest_s = min(_timed(lambda: matrix @ matrix, device) for _ in range(8))
    return {
        "peak_gflops": 2 * size**3 / fastest_s / 1e9,
        "bandwidth_gb_s": bandwidth / 1e9,
    }


def _operations(ours: Trainer, batch: Batch) -> float:
    """Floating-point operations of the products of an iteration of `BATCH` sequences."""
    with FlopCounterMode(display=False) as counter:
        ours.train(batch, 0, report=False)
    return float(counter.get_total_flops()) * BATCH / COUNTED_BATCH


def _training(
    device: torch.device, precision: Precision, limits: dict[str, float]
) -> dict[str, float]:
    ours, reference, draw = _trainers(device, precision)
    few, batch = draw(COUNTED_BATCH), draw(BATCH)
    reference.train(few)
    operations = _operations(ours, few)
    works: dict[str, Callable[[], object]] = {
        "reference": lambda: reference.train(batch),
        "ours": lambda: ours.train(batch, 0, report=False),
    }
    if device.type == "cuda":
        for work in works.values():
            for _ in range(EAGER_CALLS + 1):
                work()
    rounds = _in_turn(works, device, seconds=TRAINING_S, settle=True)
    iteration_s, reference_s = (statistics.median(rounds[name]) for name in ("ours", "reference"))
    pairs = zip(rounds["reference"], rounds["ours"], strict=True)
    windows = sum(ours.sync_windows(0).values()) * BATCH
    return {
        "rounds": len(rounds["ours"]),
        "iteration_ratio": statistics.median(slow / fast for slow, fast in pairs),
        "iteration_s": iteration_s,
        "reference_iteration_s": reference_s,
        "iterations_per_s": 1 / iteration_s,
        "sequences_per_s": BATCH / iteration_s,
        "windows_per_s": windows / iteration_s,
        "iteration_gflop": operations / 1e9,
        "peak_fraction": operations / 1e9 / iteration_s / limits["peak_gflops"],
        "peak_memory_mb": _peak_memory("ours", device, precision),
        "reference_peak_memory_mb": _peak_memory("reference", device, precision),
    }


def _peak_memory(whose: str, device: torch.device, precision: Precision) -> float:
    """Most MB that iterations took, in a process of its own: of it, or of its device."""
    options = ["--device", device.type, "--precision", precision]
    command = [sys.executable, "-m", "bench.train", "memory", whose, *options]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    peak_mb = watch(process)
    told, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return float(told) if device.type == "cuda" else peak_mb


@app.command(hidden=True)
def memory(whose: str, device: str = "cpu", precision: Precision = Precision.FLOAT32) -> None:
    """Make iterations until nothing new is made, and print the most MB they took on the device."""
    where = devices.choose(device)
    ours, reference, draw = _trainers(where, precision)
    train: Callable[[Batch], object] = (
        partial(ours.train, step=0, report=False) if whose == "ours" else reference.train
    )
    del ours, reference
    for size in (COUNTED_BATCH, *[BATCH] * (EAGER_CALLS + 1 if where.type == "cuda" else 1)):
        train(draw(size))
    typer.echo(torch.cuda.max_memory_allocated(where) / 1e6 if where.type == "cuda" else 0)


def _random_audio(frames: int, generator: Generator, device: torch.device) -> Tensor:
    bands = len(generator.audio.standardise.mean_C)
    drawn = torch.Generator().manual_seed(0)
    return torch.randn(frames * ROWS_PER_FRAME, bands, generator=drawn).to(device)


def _generation(
    generator: Generator, device: torch.device, limits: dict[str, float]
) -> dict[str, float]:
    single = prepare(generator, dtype=torch.float32)
    half = prepare(generator, dtype=torch.bfloat16)
    reference = ReferenceGenerator(generator)
    source_PD = torch.rand(POINTS, 2, generator=torch.Generator().manual_seed(1)).to(device)
    audio_AM = _random_audio(FRAMES, generator, device)
    works: dict[str, Callable[[], object]] = {
        "reference": lambda: reference.generate(source_PD[None], audio_AM[None]),
        "batch": lambda: generator.generate(source_PD[None], audio_AM[None]),
        "fp32": lambda: _alone(single, source_PD, audio_AM),
        "bf16": lambda: _alone(half, source_PD, audio_AM),
    }
    for work in works.values():
        work()  # compiles
    rounds = _in_turn(works, device, seconds=GENERATING_S)
    fps = {name: FRAMES / statistics.median(each) for name, each in rounds.items()}
    best = {name: FRAMES / min(each) for name, each in rounds.items()}
    weights = sum(_numbers(generator.get_submodule(name)) for name in STEP)
    bytes_per_s = limits["bandwidth_gb_s"] * 1e9
    pairs = zip(rounds["reference"], rounds["fp32"], strict=True)
    return {
        "generate_ratio": statistics.median(slow / fast for slow, fast in pairs),
        "generate_fps": fps["bf16"],
        "generate_fps_best": best["bf16"],
        "generate_fp32_fps": fps["fp32"],
        "generate_fp32_fps_best": best["fp32"],
        "generate_unprepared_fps": fps["batch"],
        "reference_generate_fps": fps["reference"],
        "step_parameters": weights,
        "bandwidth_fraction": fps["bf16"] * weights * 2 / bytes_per_s,
        "bandwidth_fraction_fp32": fps["fp32"] * weights * 4 / bytes_per_s,
        **_deviation(single, half, source_PD, _random_audio(LONG_FRAMES, generator, device)),
    }


def _alone(prepared: Prepared, source_PD: Tensor, audio_AM: Tensor) -> Tensor:
    """Generate on one thread: what is prepared uses one core, and torch's others would wait."""
    with devices.one_thread():
        return prepared.generate(source_PD, audio_AM)


def _numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _deviation(
    single: Prepared, half: Prepared, source_PD: Tensor, audio_AM: Tensor
) -> dict[str, float]:
    """How far weights of 16 bits lead a landmark astray, in crop sides, and how far it went."""
    exact_TPD, rounded_TPD = (_alone(made, source_PD, audio_AM) for made in (single, half))
    off_TP = (exact_TPD - rounded_TPD).norm(dim=2)
    moved_TP = (exact_TPD - source_PD).norm(dim=2)
    found = {}
    for frames in (FRAMES, LONG_FRAMES):
        found[f"bf16_max_deviation_{frames}"] = off_TP[:frames].max().item()
        found[f"bf16_mean_deviation_{frames}"] = off_TP[:frames].mean().item()
        found[f"mean_displacement_{frames}"] = moved_TP[:frames].mean().item()
    return found


@contextmanager
def _one_core() -> Iterator[None]:
    """This thread, and torch, on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        with devices.one_thread():
            yield
    finally:
        os.sched_setaffinity(0, cores)


def _streaming(generator: Generator, device: torch.device) -> dict[str, float]:
    """Time to each frame, and memory on the way, where audio comes 40 ms at a time.

    The time is that since the last piece of audio that the frame waited for, or the frame before
    it. `own` is the time that the core spent on it, without what else ran there.
    """
    prepared = prepare(generator, dtype=torch.bfloat16)
    source_PD = torch.rand(POINTS, 2, generator=torch.Generator().manual_seed(1)).to(device)
    audio_AM = _random_audio(STREAMED_FRAMES, generator, device)
    process = psutil.Process()
    settled = 0
    times_ms, own_ms = [], []
    started = own_started = 0.0

    def microphone() -> Iterator[Tensor]:
        nonlocal started, own_started
        for chunk_AM in audio_AM.split(ROWS_PER_FRAME):
            started, own_started = time.perf_counter(), time.thread_time()
            yield chunk_AM

    begun = time.perf_counter()
    with _one_core():
        for number, frame_PD in enumerate(prepared.stream(source_PD, microphone())):
            frame_PD.cpu()
            times_ms.append((time.perf_counter() - started) * 1e3)
            own_ms.append((time.thread_time() - own_started) * 1e3)
            if number == SETTLED_FRAMES:
                settled = process.memory_info().rss
            started, own_started = time.perf_counter(), time.thread_time()
    fps = STREAMED_FRAMES / (time.perf_counter() - begun)
    times_ms, own_ms = times_ms[SETTLED_FRAMES:], own_ms[SETTLED_FRAMES:]
    return {
        "stream_p50_ms": float(np.percentile(times_ms, 50)),
        "stream_p99_ms": float(np.percentile(times_ms, 99)),
        "stream_own_p50_ms": float(np.percentile(own_ms, 50)),
        "stream_own_p99_ms": float(np.percentile(own_ms, 99)),
        "stream_fps": fps,
        "stream_growth_mb": (process.memory_info().rss - settled) / 1e6,
    }


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="Of our training; the reference's is float32.")
    ] = Precision.FLOAT32,
    part: Annotated[list[Part] | None, typer.Option(help="Parts, instead of all.")] = None,
) -> None:
    """Measure, and print a table."""
    if context.invoked_subcommand:
        return
    where = devices.choose(device)
    limits = _limits(where, precision)
    params = load(ROOT / "params.cluster.yaml").train_generator
    torch.manual_seed(0)
    generator = Generator(**params.generator.model_dump()).to(where).eval()
    generator.velocity_scale_X.fill_(0.004)  # of the random walks
    figures = limits | {"threads": torch.get_num_threads(), "batch": BATCH}
    parts = part or list(Part)
    if Part.GENERATION in parts:
        figures |= _generation(generator, where, limits)
    if Part.STREAMING in parts:
        figures |= _streaming(generator, where)
    if Part.TRAINING in parts:
        figures |= _training(where, precision, limits)
    for name, value in figures.items():
        typer.echo(f"{name:<28}{value:>12.4g}")
    if json_file:
        write_text(json_file, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    app()
