"""Distances of drawn faces, where the user brings the networks that measure them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mssync.media.store import digest
from mssync.metrics import inception, rendered
from mssync.metrics.bootstrap import Estimate
from mssync.metrics.frechet import frechet
from mssync.metrics.i3d import I3d
from mssync.params import Rendered
from mssync.render.gallery import MetricRow, MetricTable
from mssync.stages._gallery import label
from mssync.stages._scores import Excerpt, Motion

logger = logging.getLogger(__name__)

NAMES = {"fid": "FID", "t_fid": "t-FID", "fvd": "FVD"}


@dataclass(frozen=True)
class Networks:
    """What measures pictures and videos.

    Attributes:
        features: Distance -> motions to features; empty where no weights are named.
        told: What `metrics.json` holds of it; None where no weights are named.
    """

    features: Mapping[str, Callable[[Sequence[Motion]], rendered.Features]]
    told: Mapping[str, Any] | None


def load(params: Rendered, device: torch.device) -> Networks:
    """Read the weights that are named, before anything is measured.

    Raises:
        InputError: If a file is missing, or holds other weights.
    """
    features = dict[str, Callable[[Sequence[Motion]], rendered.Features]]()
    files = dict[str, dict[str, str]]()
    if params.inception:
        pictures, every = inception.load(Path(params.inception), device), params.every_frames
        features["fid"] = lambda given: rendered.frame_features(
            given, pictures, device, every_frames=every
        )
        features["t_fid"] = lambda given: rendered.time_features(given, pictures, device)
        files["inception"] = _told(params.inception)
        if not files["inception"]["sha256"].startswith(inception.PUBLISHED):
            logger.warning(
                "evaluate: %s is not the file that FID is published with (its SHA-256 does not "
                "begin with %s): distances compare with one another only",
                params.inception,
                inception.PUBLISHED,
            )
    if params.i3d:
        videos = I3d(Path(params.i3d), device)
        features["fvd"] = lambda given: rendered.video_features(given, videos, device)
        files["i3d"] = _told(params.i3d)
    if not features:
        logger.info(
            "evaluate: FID, t-FID and FVD of drawn faces are left out, as no weights are named "
            "(--inception, --i3d; docs/evaluation.md says where they come from)"
        )
        return Networks({}, None)
    return Networks(
        features,
        {
            "weights": files,
            "renderer": rendered.RENDERER,
            "every_frames": params.every_frames,
        },
    )


def score(
    networks: Networks, motions: Mapping[str, Sequence[Motion]], pieces: Sequence[Excerpt]
) -> dict[str, dict[str, Any]]:
    """System -> distance -> `distance` to the ground truth, and `n` samples on each side."""
    found: dict[str, dict[str, Any]] = {system: {} for system in motions}
    for name, extract in networks.features.items():
        truth_NF = extract([piece.motion_TPD for piece in pieces])
        for system, made in motions.items():
            distance = asdict(frechet(truth_NF, extract(made)))
            found[system][name] = {key: distance[key] for key in ("distance", "n")}
            logger.info("evaluate: %s of %s: %.4g", NAMES[name], system, distance["distance"])
    return found


def tables(scores: Mapping[str, Mapping[str, Any]]) -> list[MetricTable]:
    """One table, a line a distance; none where nothing was measured."""
    measured = list(next(iter(scores.values())))
    if not measured:
        return []
    rows = []
    for name in measured:
        values = [found[name] for found in scores.values()]
        n = values[0]["n"]
        estimates = [Estimate(each["distance"], None, None, n) for each in values]
        rows.append(MetricRow(NAMES[name], estimates, None, n))
    return [
        MetricTable(
            "Fréchet distances of drawn faces",
            f"Drawn as {rendered.RENDERER}; compared by the networks that were given. At this N "
            "only.",
            "lower",
            [label(system) for system in scores],
            rows,
        )
    ]


def _told(file: str) -> dict[str, str]:
    return {"file": file, "sha256": digest(Path(file))}
