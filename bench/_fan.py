"""2D-FAN in the backend's batches, beside face_alignment's own call for each frame; boxes given.

Weights are random, which changes no time. Both look at the mirrored face too, and both put points
in quarters of a cell, so that they can be compared.
"""

import hashlib
import io
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import face_alignment
import numpy as np
import skimage.data
import torch
from face_alignment import api
from face_alignment.detection.sfd import sfd_detector
from face_alignment.detection.sfd.net_s3fd import s3fd
from face_alignment.models import FAN

from mssync.landmarks.detector import Backend, Box, Face, Picture, open_backend
from mssync.params import ExtractLandmarks

ROUNDS = 3
CPU_CROPS = 4  # half a second each
GPU_CROPS, GPU_BATCH, GPU_THREADS = 2048, 64, 8


def measure(folder: Path, params: ExtractLandmarks, device: str) -> dict[str, float]:
    """Crops a second of both, turn by turn, and their ratio to those frame by frame.

    Args:
        folder: For the weights.
        params: The stage's section.
        device: `cpu` or `cuda`.
    """
    torch.set_num_threads(1)
    _make_weights(folder)
    theirs = face_alignment.FaceAlignment(
        face_alignment.LandmarksType.TWO_D, device=device, flip_input=True, compile=False
    )
    portrait = skimage.data.astronaut()
    on_gpu = device == "cuda"
    boxes = [
        (170.0 + shift, 60.0, 282.0 + shift, 190.0)
        for shift in np.linspace(0, 9, GPU_CROPS if on_gpu else CPU_CROPS)
    ]
    few = boxes[:64] if on_gpu else boxes

    def one_by_one() -> list[Any]:
        return [theirs.get_landmarks_from_image(portrait, [np.array(box)])[0] for box in few]

    ways: dict[str, Callable[[], list[Any]]] = {"per_frame": one_by_one}
    with ExitStack() as stack:
        for batch in [GPU_BATCH] if on_gpu else sorted({params.fan_batch, CPU_CROPS}):
            equal = {"backend": "face_alignment", "fan_flip": True, "fan_subpixel": False}
            changed = params.model_copy(update=equal | {"fan_batch": batch})
            backend = stack.enter_context(open_backend(changed, device=device))
            threads = GPU_THREADS if on_gpu else 1
            ways[f"batch_{batch}"] = partial(_batched, backend, portrait, boxes, threads=threads)
        rates = _rates(ways)
    per_frame = rates["per_frame"]
    return {f"fan_{device}_{name}_crops_per_s": rate for name, rate in rates.items()} | {
        f"fan_{device}_{name}_ratio": rate / per_frame for name, rate in rates.items()
    }


def _rates(ways: Mapping[str, Callable[[], list[Any]]]) -> dict[str, float]:
    expected, *answers = [way() for way in ways.values()]  # and warm
    for answer in answers:
        _check_alike(expected, answer)
    rounds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            done = len(way())
            rounds[name].append(done / (time.perf_counter() - started))
    return {name: statistics.median(found) for name, found in rounds.items()}


def _batched(
    backend: Backend,
    picture: Picture,
    boxes: Sequence[tuple[float, float, float, float]],
    *,
    threads: int,
) -> list[Any]:
    """The points in each box, asked for by so many clips at a time."""
    given = [Box(*box, 1.0) for box in boxes]
    shares = [given[start::threads] for start in range(threads)]

    def follow(share: Sequence[Box]) -> list[Face | None]:
        return backend.landmarker().points([picture] * len(share), share, [[]] * len(share))

    faces: list[Face | None] = [None] * len(given)
    with ThreadPoolExecutor(threads) as pool:
        for start, found in enumerate(pool.map(follow, shares)):
            faces[start::threads] = found
    return [face and face.points_PD for face in faces]


def _check_alike(theirs: Sequence[Any], ours: Sequence[Any]) -> None:
    pairs = [(one, other) for one, other in zip(theirs, ours, strict=False) if other is not None]
    off_px = max((float(np.abs(one - other).max()) for one, other in pairs), default=0.0)
    sys.stderr.write(f"2D-FAN: {len(pairs)} faces compared, at most {off_px:.3f} px apart\n")


def _make_weights(folder: Path) -> None:
    """Random weights, and the package's own tables changed so that everyone loads them."""
    os.environ["TORCH_HOME"] = str(folder)
    target = folder / "hub" / "checkpoints"
    target.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for table, key, start, network in (
        (api.models_urls, "2DFAN-4", "2DFAN4", FAN(4)),
        (sfd_detector.models_urls, "s3fd", "s3fd", s3fd()),
    ):
        content = io.BytesIO()
        torch.save(network.state_dict(), content)
        name = f"{start}-{hashlib.sha256(content.getvalue()).hexdigest()[:10]}.pth"
        (target / name).write_bytes(content.getvalue())
        table[key] = f"http://127.0.0.1:9/{name}"
