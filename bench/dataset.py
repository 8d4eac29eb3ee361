"""What a growing dataset costs: build, a few clips more, other versions, DVC.

    python -m bench.dataset [--json FILE] [--full]

A corpus of parts is generated (`bench/_corpus.py`), of 10 000 and 20 000 clips of five seconds,
with `--full` of 100 000, which needs 80 GB of disk. Every build is the command line's own, in
processes of its own, whose memory is watched.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from bench import _corpus
from bench._memory import watch
from mssync.data import dataset, history
from mssync.data.pack import open_pack
from mssync.data.windows import Windows
from mssync.params import load
from mssync.records import write_text

SIZES = (10_000, 20_000)
FULL = (100_000,)
FULL_BYTES = 80_000_000_000
DRAWING_S = 3.0
OUTS = ("data/landmarks", "data/audio", "data/dataset", "data/manifest.parquet")
ROOT = Path(__file__).parents[1]

app = typer.Typer(add_completion=False)


def _build(folder: Path) -> tuple[float, float]:
    """Seconds and peak memory in MB of one build."""
    return _mssync(
        folder,
        *("build-dataset", "--manifest", "data/manifest.parquet", "--landmarks", "data/landmarks"),
        *("--audio", "data/audio", "--ledger", "ledger", "--out", "data/dataset"),
        *("--card", "data/card", "--params", str(ROOT / "params.yaml")),
    )


def _mssync(folder: Path, *arguments: str) -> tuple[float, float]:
    """Seconds and peak memory in MB of a command."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mssync", *arguments],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=log, text=True,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""},  # nobody compiles at every start
        )  # fmt: skip
        peak_mb = watch(process, every_s=0.05)
        if process.returncode:
            log.seek(0)
            raise SystemExit(log.read()[-2000:])
    return time.perf_counter() - started, peak_mb


def _dvc(folder: Path, *arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "dvc", "-q", *arguments],
        cwd=folder, check=True, stdout=subprocess.DEVNULL,
        env=os.environ | {"DVC_NO_ANALYTICS": "1"},
    )  # fmt: skip
    return time.perf_counter() - started


def _files(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for kind in ("landmarks", "audio")
        for path in (folder / "data" / kind).iterdir()
    }


def _grow(folder: Path, size: int, more: int) -> tuple[float, int, int]:
    """Add clips: seconds of the build, parts that are new, parts that were rewritten."""
    before = _files(folder)
    _corpus.write(folder, range(size, size + more), workers=2)
    seconds, _ = _build(folder)
    after = _files(folder)
    rewritten = sum(after.get(name) != when for name, when in before.items())
    return seconds, len(after) - len(before), rewritten


def _read(folder: Path) -> dict[str, float]:
    """Pack the training split and draw from it, in a process of its own."""
    told = subprocess.run(
        [sys.executable, "-m", "bench.dataset", "read", str(folder)],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    figures: dict[str, float] = json.loads(told.stdout)
    return figures


@app.command(hidden=True)
def read(folder: Path) -> None:
    """Pack the training split, and draw batches of it as a guide's training does, on one core."""
    torch.set_num_threads(1)
    params = load(ROOT / "params.yaml").train_syncers
    started = time.perf_counter()
    pack = open_pack(dataset.load(folder / "data" / "dataset"), "train")
    pack_s = time.perf_counter() - started
    windows = Windows(
        pack,
        level=0,
        kernel=params.kernel,
        valid_only=params.valid_only,
        device=torch.device("cpu"),
    )
    drawn = 0
    started = time.perf_counter()
    while (spent := time.perf_counter() - started) < DRAWING_S:
        batch = windows.draw(
            "cross_clip",
            drawn,
            seed=0,
            groups=params.groups_per_step,
            largest=params.cross_clip_group,
            audio_range=pack.statistics.audio_range,
        )
        drawn += 1
    groups, size = batch.motion_GN5PD.shape[:2]
    figures = {
        "packed_clips": len(pack),
        "pack_s": pack_s,
        "windows_per_s": drawn * groups * size / spent,
    }
    typer.echo(json.dumps(figures))


def _measure(size: int, workspace: Path, *, smallest: bool, largest: bool) -> dict[str, float]:
    """Figures of one size; what takes long and is linear or flat is measured at one of them."""
    folder = workspace / str(size)
    started = time.perf_counter()
    _corpus.write(folder, range(size), workers=2)
    _say(f"{size} clips generated in {time.perf_counter() - started:.0f} s")
    found: dict[str, float] = {}
    found["build_s"], found["build_peak_mb"] = _build(folder)
    found["build_again_s"], found["build_again_peak_mb"] = _build(folder)
    if smallest:
        found |= _read(folder)
    if largest:
        found |= _shared(folder, workspace / "remote")
    found["add_1_s"], found["add_1_parts"], found["add_1_rewritten"] = _grow(folder, size, 1)
    if largest:
        found["dvc_status_1_s"] = _dvc(folder, "status")
        found["dvc_add_1_s"] = _dvc(folder, "add", *OUTS)
        found["dvc_push_1_s"] = _dvc(folder, "push")
        found |= _changed(folder, size + 1)
    found["files"] = sum(1 for path in (folder / "data").rglob("*") if path.is_file())
    shutil.rmtree(folder)
    return found


def _shared(folder: Path, remote: Path) -> dict[str, float]:
    """What it takes DVC to take in all of a dataset, and to push it into a folder."""
    _dvc(folder, "init", "--no-scm")
    _dvc(folder, "remote", "add", "-d", "local", str(remote))
    add_s = _dvc(folder, "add", "--no-commit", *OUTS) + _dvc(folder, "commit")
    return {"dvc_add_s": add_s, "dvc_push_s": _dvc(folder, "push")}


def _changed(folder: Path, size: int) -> dict[str, float]:
    """Add 1000 clips, compare the first version with the last, take a speaker down."""
    found: dict[str, float] = {}
    grown = _grow(folder, size, 1000)
    found["add_1000_s"], found["add_1000_parts"], found["add_1000_rewritten"] = grown
    first = history.known(history.folder_of(folder / "data" / "dataset"))[0].revision
    found["diff_s"], _ = _mssync(folder, "diff", first)
    found["takedown_s"], _ = _mssync(
        folder,
        *("takedown", "--speaker", _corpus.name(size // 2)[1]),
        *("--params", str(ROOT / "params.yaml")),
    )
    return found


def _say(line: str) -> None:
    typer.echo(line, err=True)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="100 000 clips; needs 80 GB.")] = False,
) -> None:
    """Measure, and print a table."""
    if context.invoked_subcommand:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if full and free < FULL_BYTES:
        typer.echo(
            f"--full needs {FULL_BYTES / 1e9:.0f} GB in {tempfile.gettempdir()}, "
            f"{free / 1e9:.0f} GB are free: set TMPDIR to a larger disk",
            err=True,
        )
        raise typer.Exit(1)
    sizes = FULL if full else SIZES
    with tempfile.TemporaryDirectory() as name:
        by_size = {
            size: _measure(size, Path(name), smallest=size == sizes[0], largest=size == sizes[-1])
            for size in sizes
        }
    typer.echo(f"{'':<22}" + "".join(f"{size:>12}" for size in sizes))
    largest = {key: value for size in sizes for key, value in by_size[size].items()}
    for key in largest:
        values = "".join(f"{by_size[size].get(key, float('nan')):>12.1f}" for size in sizes)
        typer.echo(f"{key:<22}{values}")
    if json_file:
        write_text(json_file, json.dumps({**largest, "by_clips": by_size}, indent=1) + "\n")


if __name__ == "__main__":
    app()
