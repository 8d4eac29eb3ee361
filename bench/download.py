"""What downloading costs: small files, large files beside curl, memory over the length of the list.

    python -m bench.download [--json FILE]

A loopback server in a process of its own, pinned to one core, sends with sendfile. The stage runs
in another process, pinned with its children to another core, through the stage's own code, with the
shipped parameters but for the rate of requests. Long lists are lists as they come: most links dead.
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from bench._memory import watch
from mssync.download.access import Access
from mssync.download.addresses import Policy
from mssync.ledger import ATTEMPTS, read_attempts
from mssync.media.ffmpeg import encode
from mssync.media.store import MediaStore
from mssync.params import HostLimits, load
from mssync.stages import download_videos

SMALL_ITEMS = 2000
LARGE_BYTES = 500_000_000
ROUNDS = 5
LISTS = (10_000, 100_000)
ALIVE_EVERY = 100  # of the long lists, one link in so many leads to a video
HOST = "127.0.0.1"
SERVER_CORE, STAGE_CORE = 0, 1

app = typer.Typer(add_completion=False)


# ---------------------------------------------------------------- the server


def _serve(clip: Path, large: Path) -> None:
    """Print a port and answer on it until killed: /small/N, /large/N; the rest is not there."""
    small = clip.read_bytes()
    with socket.create_server((HOST, 0), backlog=128) as server:
        sys.stdout.write(f"{server.getsockname()[1]}\n")
        sys.stdout.flush()
        while True:
            client, _ = server.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_answer_all, args=(client, small, large), daemon=True).start()


def _answer_all(client: socket.socket, small: bytes, large: Path) -> None:
    with client, client.makefile("rb") as requests, large.open("rb") as file:
        try:
            while path := requests.readline().split(b" ")[1:2]:
                while requests.readline().strip():
                    pass
                _answer(client, path[0].decode(), small, file.fileno(), large.stat().st_size)
        except OSError:
            return  # the client has what it wanted


def _answer(client: socket.socket, path: str, small: bytes, large: int, large_size: int) -> None:
    _, kind, name = path.split("/")
    # a clip of its own for every name: an MP4 box that players skip
    note = name.encode().rjust(16)
    body = small + (8 + len(note)).to_bytes(4) + b"free" + note if kind == "small" else b""
    status = "404 Not Found" if kind == "dead" else "200 OK"
    size = large_size if kind == "large" else len(body)
    head = (
        f'HTTP/1.1 {status}\r\nContent-Type: video/mp4\r\nETag: "{kind}{name}"\r\n'
        f"Content-Length: {size}\r\n\r\n"
    )
    client.sendall(head.encode() + body)
    sent = 0
    while kind == "large" and sent < size:
        sent += os.sendfile(client.fileno(), large, sent, size - sent)


@contextmanager
def _served(clip: Path, large: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "bench.download", "serve", str(clip), str(large)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            _pin(process.pid, SERVER_CORE)
            yield f"http://{HOST}:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def _pin(process: int, core: int) -> None:
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(process, {core})


# ---------------------------------------------------------------- the stage


def _stage(folder: Path, connections: int) -> dict[str, float]:
    """Run the stage on `folder/sources.csv`, pinned to one core."""
    _pin(0, STAGE_CORE)
    params = load(Path("params.yaml")).download_videos.model_copy(
        update={
            "hosts": {HOST: HostLimits(requests_per_s=1e6, burst=1000, connections=connections)},
            "min_success_ratio": 0.0,
        }
    )
    started = time.perf_counter()
    counts = download_videos.run(
        folder / "sources.csv",
        folder / "manifest.parquet",
        folder / "ledger",
        params,
        store=MediaStore(folder / "store"),
        workers=1,
        access=Access(policy=Policy(mirrors=(HOST,))),
    )
    return counts | {"seconds": time.perf_counter() - started}


def _measure_stage(
    folder: Path, links: Iterator[str], *, connections: int = 16
) -> dict[str, float]:
    """Run the stage in a process of its own: its figures, and the memory of it and its children."""
    folder.mkdir()
    with (folder / "sources.csv").open("w") as file:
        file.write("source,speaker_id\n")
        file.writelines(f"{link},speaker\n" for link in links)
    command = [sys.executable, "-m", "bench.download", "stage", str(folder), str(connections)]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        peak_mb = watch(process)
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"the stage failed: {(folder / 'log').read_text()[-2000:]}")
    figures: dict[str, float] = json.loads(said)
    return figures | {"peak_mb": peak_mb}


# ---------------------------------------------------------------- what is measured


def measure_small(folder: Path, url: str) -> dict[str, float]:
    """Clips of a few kilobytes, each with bytes of its own."""
    figures = _measure_stage(
        folder / "small", (f"{url}/small/{number}.mp4" for number in range(SMALL_ITEMS))
    )
    if figures["clips_kept"] != SMALL_ITEMS:
        raise SystemExit(f"{figures['clips_kept']:.0f} of {SMALL_ITEMS} small clips were kept")
    return {"small_items_per_s_per_core": SMALL_ITEMS / figures["seconds"]}


def measure_large(folder: Path, url: str) -> dict[str, float]:
    """One large file, beside curl, turn by turn, each on one core.

    What is timed is the attempt: transfer, digest, probe, ledger. A small clip goes before, so that
    the process that probes has started.
    """
    curl = shutil.which("curl")
    if curl is None:
        raise SystemExit("curl is needed to compare with: install curl")
    ours, theirs = list[float](), list[float]()
    for number in range(ROUNDS):
        target, link = folder / "curl", f"{url}/large/{number}.mp4"
        started = time.perf_counter()
        with subprocess.Popen([curl, "-sS", "-o", target, link]) as process:
            _pin(process.pid, STAGE_CORE)
        theirs.append(time.perf_counter() - started)
        target.unlink()
        stage_folder = folder / f"large{number}"
        _measure_stage(stage_folder, iter([f"{url}/small/0.mp4", link]), connections=1)
        attempts = read_attempts(stage_folder / "ledger" / ATTEMPTS)
        ours += [attempt.duration_s for attempt in attempts if attempt.clip_id == link]
        shutil.rmtree(stage_folder)
    return {
        "large_mb_per_s": LARGE_BYTES / 1e6 / statistics.median(ours),
        "curl_mb_per_s": LARGE_BYTES / 1e6 / statistics.median(theirs),
        "large_transfer_ratio": statistics.median(theirs) / statistics.median(ours),
    }


def measure_lists(folder: Path, url: str) -> dict[str, float]:
    """Long lists, most of whose links are dead."""
    figures = dict[str, float]()
    for rows in LISTS:
        links = (
            f"{url}/{'small' if number % ALIVE_EVERY == 0 else 'dead'}/{number}.mp4"
            for number in range(rows)
        )
        found = _measure_stage(folder / f"list{rows}", links)
        figures[f"peak_mb_{rows // 1000}k"] = found["peak_mb"]
        figures[f"rows_per_s_{rows // 1000}k"] = rows / found["seconds"]
    return figures


def _make_clip(path: Path) -> None:
    """Half a second of a moving bar, with sound: a dozen kilobytes."""
    rng = np.random.default_rng(0)
    pictures = [np.zeros((96, 128, 3), np.uint8) for _ in range(13)]
    for number, picture in enumerate(pictures):
        picture[:, 8 * number : 8 * number + 16] = 255
    encode(pictures, path, fps_hz=25.0, waveform=rng.normal(0, 0.1, 8320).astype(np.float32))


# ---------------------------------------------------------------- commands


@app.command(hidden=True)
def serve(clip: Path, large: Path) -> None:
    """Be the server."""
    _serve(clip, large)


@app.command(hidden=True)
def stage(folder: Path, connections: int) -> None:
    """Be the stage."""
    typer.echo(json.dumps(_stage(folder, connections)))


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    json_file: Annotated[Path | None, typer.Option("--json", help="File to write.")] = None,
) -> None:
    """Measure, print, and write JSON where it is asked for."""
    if context.invoked_subcommand:
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clip, large = folder / "clip.mp4", folder / "large.mp4"
        _make_clip(clip)
        content = clip.read_bytes()
        padding = LARGE_BYTES - len(content)
        with large.open("wb") as file:
            file.write(content + padding.to_bytes(4) + b"free")
            file.truncate(LARGE_BYTES)
        with _served(clip, large) as url:
            figures = (
                measure_small(folder, url) | measure_large(folder, url) | measure_lists(folder, url)
            )
    for name, value in figures.items():
        typer.echo(f"{name:<28}{value:>10.2f}")
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    app()
