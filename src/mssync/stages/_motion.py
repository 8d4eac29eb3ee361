"""The files in which a generated motion is kept: .npz and .parquet, written in bounded memory.

Axes: T frames (25 Hz), P = 68 points, D = 2, X = 136 coordinates.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mssync.landmarks import ibug
from mssync.timing import FRAME_RATE_HZ, frame_time_s

SUFFIXES = (".npz", ".parquet")
_ROWS = 2048  # in memory at a time
_POINTS = pa.list_(pa.field("element", pa.float32(), nullable=False), 2 * ibug.POINTS)
_SCHEMA = pa.schema(
    [
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("time_s", pa.float64(), nullable=False),
        pa.field("source_px", _POINTS, nullable=False),
        pa.field("crop", _POINTS, nullable=False),
    ]
)


@dataclass(frozen=True)
class Motion:
    """A motion in a file.

    Attributes:
        path: NumPy array, float32 (T, 68, 2), in crop units.
        left_px: Left edge of the crop, in pixels of the source.
        top_px: Upper edge.
        side_px: Its side.
    """

    path: Path
    left_px: float
    top_px: float
    side_px: float

    def crop_units(self) -> NDArray[np.float32]:
        """The points (T, 68, 2) in crop sides; read as they are used."""
        points_TPD: NDArray[np.float32] = np.load(self.path, mmap_mode="r")
        return points_TPD

    def in_source(self, points_PD: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points in crop units (..., 68, 2) as pixels of the source."""
        corner = np.array([self.left_px, self.top_px], np.float32)
        return points_PD * np.float32(self.side_px) + corner


def collect(
    frames: Iterable[NDArray[np.float32]], path: Path, *, count: int
) -> NDArray[np.float32]:
    """Write frames into a NumPy file as they come.

    Args:
        frames: (68, 2) each.
        path: File to write.
        count: How many there are.

    Returns:
        The file's array (T, 68, 2).
    """
    points_TPD: NDArray[np.float32] = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.float32, shape=(count, ibug.POINTS, 2)
    )
    for place, points_PD in zip(range(count), frames, strict=True):
        points_TPD[place] = points_PD
    return points_TPD


def write(motion: Motion, target: Path, suffix: str, provenance: Mapping[str, object]) -> None:
    """Write a motion with where it comes from.

    Args:
        motion: What to write.
        target: File to write.
        suffix: `.npz` or `.parquet`.
        provenance: Model, source and sound.
    """
    told = json.dumps(dict(provenance), indent=1, sort_keys=True)
    if suffix == ".npz":
        _write_npz(motion, target, told)
    else:
        _write_parquet(motion, target, told)


def _write_npz(motion: Motion, target: Path, told: str) -> None:
    crop_TPD = motion.crop_units()
    pixels = target.with_name(f"{target.name}.pixels")
    try:
        source_TPD = collect(map(motion.in_source, crop_TPD), pixels, count=len(crop_TPD))
        with target.open("wb") as file:
            np.savez(
                file,
                landmarks_TPD=source_TPD,
                crop_TPD=crop_TPD,
                crop_left_px=np.float64(motion.left_px),
                crop_top_px=np.float64(motion.top_px),
                crop_side_px=np.float64(motion.side_px),
                fps_hz=np.float64(FRAME_RATE_HZ),
                provenance=np.array(told),
            )
    finally:
        pixels.unlink(missing_ok=True)


def _write_parquet(motion: Motion, target: Path, told: str) -> None:
    crop_TPD = motion.crop_units()
    facts = {
        "crop_left_px": f"{motion.left_px!r}",
        "crop_top_px": f"{motion.top_px!r}",
        "crop_side_px": f"{motion.side_px!r}",
        "fps_hz": f"{FRAME_RATE_HZ}",
        "provenance": told,
    }
    with pq.ParquetWriter(target, _SCHEMA.with_metadata(facts)) as writer:
        for first, block_TPD in _blocks(crop_TPD):
            frames = range(first, first + len(block_TPD))
            columns = [
                pa.array(frames, pa.int32()),
                pa.array([frame_time_s(frame) for frame in frames], pa.float64()),
                _lists(motion.in_source(block_TPD)),
                _lists(block_TPD),
            ]
            writer.write_batch(pa.record_batch(columns, schema=_SCHEMA.with_metadata(facts)))


def _blocks(points_TPD: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for first in range(0, len(points_TPD), _ROWS):
        yield first, points_TPD[first : first + _ROWS]


def _lists(points_TPD: NDArray[np.float32]) -> pa.Array:
    values = pa.array(np.ascontiguousarray(points_TPD).ravel())
    return pa.FixedSizeListArray.from_arrays(values, type=_POINTS)
