"""Networks small enough for tests, of the shapes of the large ones."""

import torch

from mssync.models.syncer import Syncer

GENERATOR = {
    "coordinate_hidden": [16, 24],
    "width": 16,
    "temporal_module": "transformer",
    "temporal": 8,
    "layers": 1,
    "heads": 2,
    "feedforward": 24,
    "history_frames": 4,
    "audio_widths": [8, 8, 12, 16],
    "branch_width": 16,
    "branch_blocks": 1,
    "branch_expansion": 2,
}


def syncer(level, *, points=range(68), normalise=True, inputs="absolute"):
    """A syncer of a level, a guide by default; its weights are drawn by the level."""
    torch.manual_seed(level)
    return Syncer(
        level=level,
        points=points,
        normalise=normalise,
        motion_stem=8,
        motion_widths=[8, 8, 8, 8],
        audio_stem=8,
        audio_widths=[8, 8, 8, 8],
        blocks=[1, 1, 1, 1],
        embedding=8,
        inputs=inputs,
    )
