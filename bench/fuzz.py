"""Do damaged files crash, hang or bloat the extraction? Seeded: a seed names one damaged file.

    python -m bench.fuzz [--mutants 2000] [--seed 0] [--clips FOLDER] [--keep FOLDER]

Small media of several containers and codecs are damaged as disks, networks and attackers do it,
and go through both extraction functions in sandboxes with limits far above what such files need. A
file is a finding where a limit is hit, the process dies, this program fails, or a row is not whole.
"""

import random
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Annotated, Self

import cv2
import numpy as np
import skimage.data
import typer

from mssync import log, records
from mssync.errors import ClipRejectedError
from mssync.media import ffmpeg
from mssync.media.sandbox import Sandbox
from mssync.params import Params, load
from mssync.records import Row
from mssync.stages.extract_audio import listen
from mssync.stages.extract_landmarks import follow
from mssync.timing import ROWS_PER_FRAME

MEMORY_BYTES = 2_500_000_000  # of address space
RESIDENT_BYTES = 1_200_000_000  # thrice what the libraries take
WALL_S = 20.0
_START_S = 120.0  # the first clip of a process pays for its imports
_EDGE_BYTES = 4096  # where containers keep what they are
_LARGEST_SPAN_BYTES = 2048
_LIMITS = ("reading it takes more than", "the process that read it was killed")
_REFUSED = "libav refuses"
_INTEGERS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

_PICTURE = ["-loop", "1", "-framerate", "25", "-t", "1", "-i"]
_SOUND = ["-f", "lavfi", "-t", "1", "-i", "sine=300:sample_rate=16000"]
_MOVING = "rotate=0.15*sin(9*t):c=gray,format=yuv420p"
MEDIA = {
    "h264.mp4": ["-c:v", "libx264", "-c:a", "aac"],
    "fragments.mp4": ["-c:v", "libx264", "-bf", "0", "-c:a", "aac", "-movflags", "frag_keyframe"],
    "h264.mkv": ["-c:v", "libx264", "-c:a", "pcm_s16le"],
    "vp9.webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libopus"],
    "mpeg2.ts": ["-c:v", "mpeg2video", "-flags", "+ilme+ildct", "-c:a", "mp2"],
    "mpeg1.mpg": ["-c:v", "mpeg1video", "-c:a", "mp2"],
    "mpeg4.avi": ["-c:v", "mpeg4", "-c:a", "libmp3lame"],
    "h264.flv": ["-c:v", "libx264", "-c:a", "libmp3lame", "-ar", "22050"],
    "sound.mp3": ["-vn", "-c:a", "libmp3lame"],
    "picture.gif": ["-an", "-r", "10"],
}  # fmt: skip


def make_media(folder: Path) -> list[Path]:
    """Encode a talking-head picture that turns, with a tone, in each of `MEDIA`."""
    picture = folder / "picture.png"
    face = cv2.resize(skimage.data.astronaut()[0:256, 96:352, ::-1], (160, 160))
    cv2.imwrite(str(picture), face)
    made = []
    for name, coders in MEDIA.items():
        path = folder / name
        filters = [] if "-vn" in coders else ["-vf", _MOVING]
        command = [ffmpeg.executable(), "-v", "error", *_PICTURE, str(picture), *_SOUND, *filters]
        subprocess.run([*command, *coders, "-threads", "1", str(path)], check=True)
        made.append(path)
    return made


def mutant(whole: bytes, seed: int) -> bytes:
    """A damaged copy; the same for the same seed, and never twice as long.

    One to four of: bits flipped, bytes overwritten, a span repeated, left out or moved, a number
    of four bytes set to an extreme, the end cut off; in the first and last 4 KiB or anywhere.
    """
    rng = random.Random(seed)
    data = bytearray(whole)
    for _ in range(rng.randint(1, 4)):
        damage = rng.choices(
            (_flip, _overwrite, _repeat, _leave_out, _move, _extreme, _truncate),
            weights=(4, 3, 2, 2, 1, 3, 1),
        )[0]
        damage(data, rng)
    return bytes(data[: 2 * len(whole)])


def _span(data: bytearray, rng: random.Random, longest: int = _LARGEST_SPAN_BYTES) -> slice:
    size = len(data)
    where = rng.choice(("head", "tail", "anywhere"))
    low, high = {
        "head": (0, min(size, _EDGE_BYTES)),
        "tail": (max(0, size - _EDGE_BYTES), size),
        "anywhere": (0, size),
    }[where]
    start = rng.randrange(low, max(low + 1, high))
    return slice(start, min(size, start + rng.randint(1, longest)))


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 16)):
        place = _span(data, rng).start
        if place < len(data):
            data[place] ^= 1 << rng.randrange(8)


def _overwrite(data: bytearray, rng: random.Random) -> None:
    span = _span(data, rng, 64)
    size = len(data[span])
    data[span] = rng.choice((rng.randbytes(size), bytes(size), b"\xff" * size))


def _repeat(data: bytearray, rng: random.Random) -> None:
    span = _span(data, rng)
    data[span.stop : span.stop] = data[span] * rng.randint(1, 4)


def _leave_out(data: bytearray, rng: random.Random) -> None:
    del data[_span(data, rng)]


def _move(data: bytearray, rng: random.Random) -> None:
    span = _span(data, rng)
    moved = data[span]
    del data[span]
    place = rng.randint(0, len(data))
    data[place:place] = moved


def _extreme(data: bytearray, rng: random.Random) -> None:
    span = _span(data, rng, 1)
    order = rng.choice(("big", "little"))
    data[span.start : span.start + 4] = rng.choice(_INTEGERS).to_bytes(4, order)  # type: ignore[arg-type]


def _truncate(data: bytearray, rng: random.Random) -> None:
    del data[rng.randint(0, len(data)) :]


@dataclass(frozen=True)
class Outcome:
    """What became of a damaged file in one function.

    Attributes:
        reason: Why it was rejected; empty where it gave a row.
        finding: What is wrong about that; empty where nothing is.
        frames: Of the row.
        seconds: How long it took.
        resident_bytes: The most memory that its process ever held; 0 where it is not known.
    """

    reason: str
    finding: str
    frames: int
    seconds: float
    resident_bytes: int = 0


class Extractor:
    """Both extraction functions, each in a sandbox as its stage runs it.

    Attributes:
        folder: For the file that it works on.
    """

    def __init__(self, params: Params) -> None:
        self._functions: dict[str, Callable[[Path], Row]] = {
            "landmarks": partial(follow, params=params.extract_landmarks),
            "audio": partial(listen, params=params.extract_audio),
        }
        self._flaws = {"landmarks": landmark_flaws, "audio": audio_flaws}
        self._sandboxes = {
            name: Sandbox(memory_bytes=MEMORY_BYTES, death="crashed") for name in self._functions
        }
        self._temporary = TemporaryDirectory()
        self.folder = Path(self._temporary.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sandbox in self._sandboxes.values():
            sandbox.close()
        self._temporary.cleanup()

    def start(self, whole: Path) -> None:
        """Let the processes import what they need."""
        for name in self._functions:
            self._run(name, whole, _START_S)

    def outcomes(self, media: Path) -> dict[str, Outcome]:
        """What becomes of a file, by function."""
        found = {name: self._run(name, media, WALL_S) for name in self._functions}
        lengths = {outcome.frames for outcome in found.values() if not outcome.reason}
        if len(lengths) > 1:
            finding = f"lengths differ: {sorted(lengths)}"
            found["both"] = Outcome("", finding, 0, 0.0)
        return found

    def _run(self, name: str, media: Path, wall_s: float) -> Outcome:
        started = time.monotonic()
        row: Row = {}
        reason = finding = ""
        resident_bytes = 0
        sandbox = self._sandboxes[name]
        try:
            row, resident_bytes = sandbox.call(
                measured, self._functions[name], media, wall_s=wall_s
            )
            finding = ", ".join(self._flaws[name](row))
        except ClipRejectedError as error:
            reason = error.reason
            if reason == "crashed" or str(error).startswith(_LIMITS):
                finding = f"{reason}: {error}"
        except Exception as error:  # whatever it is, it is what is looked for
            reason, notes = "bug", "".join(getattr(error, "__notes__", []))
            finding = f"bug: {type(error).__name__}: {error}\n{notes}"
        if resident_bytes > RESIDENT_BYTES:
            finding = f"{resident_bytes / 1e9:.1f} GB of memory {finding}"
            sandbox.close()  # its peak would be told of every later file
        frames = int(row.get("frames", 0))
        return Outcome(reason, finding, frames, time.monotonic() - started, resident_bytes)


def measured(function: Callable[[Path], Row], media: Path) -> tuple[Row, int]:
    """Run a function: its row, and the most memory that the process ever held, in bytes.

    Raises:
        ClipRejectedError: What the function raised; or where libav refused to hold what a damaged
            file announces, and memory is left.
        MemoryError: If there is none left.
    """
    try:
        row = function(media)
    except MemoryError as error:
        if _resident_bytes() > RESIDENT_BYTES:
            raise
        raise ClipRejectedError("too_costly", f"{_REFUSED}: {error}") from error
    return row, _resident_bytes()


def _resident_bytes() -> int:
    # Not ru_maxrss, which a process has from the one that started it.
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def landmark_flaws(row: Row) -> list[str]:
    """What is wrong with a row of landmarks: sizes, numbers, masks."""
    frames = int(row["frames"])
    sizes = {
        "landmarks_TPD": frames * 136, "confidence_T": frames, "interpolated_T": frames,
        "pose_TA": frames * 3, "mouth_T": frames, "move_T": frames, "shot_T": frames,
    }  # fmt: skip
    found = _flaws(row, sizes, (*records.LANDMARK_SCORES, "landmarks_TPD", "pose_TA", "mouth_T"))
    if np.any(np.diff(row["shot_T"]) < 0) or row["shot_T"][:1].any():
        found.append("shot_T is not a count from 0")
    if not _within(row["confidence_T"], 0, 1):
        found.append("confidence_T is not in [0, 1]")
    return found


def audio_flaws(row: Row) -> list[str]:
    """What is wrong with a row of audio features: four rows a frame, numbers."""
    rows = int(row["frames"]) * ROWS_PER_FRAME
    sizes = {"log_mel_AM": rows * 26, "mfcc_AC": rows * 13, "loudness_A": rows, "speech_A": rows}
    found = _flaws(row, sizes, (*records.AUDIO_SCORES, "log_mel_AM", "mfcc_AC", "loudness_A"))
    if not _within(row["speech_A"], 0, 1):
        found.append("speech_A is not in [0, 1]")
    return found


def _flaws(row: Row, sizes: Mapping[str, int], finite: Sequence[str]) -> list[str]:
    found = [
        f"{name} has {len(row[name])} values, expected {size}"
        for name, size in sizes.items()
        if len(row[name]) != size
    ]
    return found + [
        f"{name} is not finite" for name in finite if not np.all(np.isfinite(row[name]))
    ]


def _within(values: np.ndarray[tuple[int], np.dtype[np.float32]], low: float, high: float) -> bool:
    return bool(np.all((values >= low) & (values <= high)))


@dataclass(frozen=True)
class Report:
    """What came of all mutants.

    Attributes:
        outcomes: How many ended how, by function.
        findings: What is wrong, in the order of the seeds.
        slowest: Longest time of one function on one file, in seconds, and which file.
        largest_bytes: The most memory that any process held.
    """

    outcomes: Counter[str]
    findings: list[str]
    slowest: tuple[float, str]
    largest_bytes: int


def fuzz(
    media: Sequence[Path],
    params: Params,
    *,
    mutants: int,
    seed: int,
    workers: int = 2,
    keep: Path | None = None,
) -> Report:
    """Damage files and extract from each.

    Args:
        media: Whole files, each damaged in turn.
        params: For both stages.
        mutants: How many damaged files.
        seed: Of the first; each has the next one.
        workers: Threads, each with its own sandboxes.
        keep: Folder for the files that are findings.
    """
    extractors = SimpleQueue[Extractor]()

    def one(number: int) -> tuple[str, dict[str, Outcome]]:
        whole = media[number % len(media)]
        extractor = extractors.get()
        try:
            path = extractor.folder / whole.name
            path.write_bytes(mutant(whole.read_bytes(), number))
            found = extractor.outcomes(path)
            if keep and any(outcome.finding for outcome in found.values()):
                path.replace(keep / f"{number}-{whole.name}")
        finally:
            extractors.put(extractor)
        return f"seed {number} ({whole.name})", found

    with ExitStack() as stack:
        for _ in range(workers):
            extractor = stack.enter_context(Extractor(params))
            extractor.start(media[0])
            extractors.put(extractor)
        threads = stack.enter_context(ThreadPoolExecutor(workers))
        results = [
            (what, name, outcome)
            for what, found in threads.map(one, range(seed, seed + mutants))
            for name, outcome in found.items()
        ]
    return Report(
        Counter(f"{name}: {outcome.reason or 'a row'}" for _, name, outcome in results),
        [
            f"{what}: {name}: {outcome.finding}"
            for what, name, outcome in results
            if outcome.finding
        ],
        max((outcome.seconds, what) for what, _, outcome in results),
        max(outcome.resident_bytes for *_, outcome in results),
    )


def main(
    mutants: Annotated[int, typer.Option(help="Damaged files.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the first one.")] = 0,
    clips: Annotated[Path | None, typer.Option(help="Folder of real media to damage too.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder for the files found.")] = None,
) -> None:
    """Damage, extract, and print what came of it; exit code 1 if anything was found."""
    log.set_up("ERROR")
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as temporary:
        media = make_media(Path(temporary))
        media += sorted(path for path in clips.rglob("*") if path.is_file()) if clips else []
        report = fuzz(media, load(Path("params.yaml")), mutants=mutants, seed=seed, keep=keep)
    for outcome, times in sorted(report.outcomes.items()):
        typer.echo(f"{times:>8}  {outcome}")
    seconds, what = report.slowest
    typer.echo(f"slowest: {seconds:.1f} s, {what}")
    typer.echo(f"most memory: {report.largest_bytes / 1e6:.0f} MB")
    typer.echo(f"findings: {len(report.findings)}")
    for finding in report.findings:
        typer.echo(finding)
    raise typer.Exit(bool(report.findings))


if __name__ == "__main__":
    from bench import fuzz as found_by_name  # as the processes find what they are to run

    typer.run(found_by_name.main)
