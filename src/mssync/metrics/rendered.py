"""FID, t-FID and FVD of drawn landmarks, as the authors' earlier work measures them.

Definitions are those of arXiv 2211.00987 and of its code: a face is 68 single pixels in a black
picture of 224 x 224, jaw in red, brows, nose and eyes in green, lips in blue; windows have 40
frames.

* FID: single pictures, Inception's 2048 features.
* t-FID: the sum of a window's pictures, later ones weighing more (0.2 to 0.8, of sum 1), the same
  features.
* FVD: the windows as videos, I3D's 400 logits.

Two things are ours: windows are cut from the whole of each sequence, not its end alone, and I3D is
given [-1, 1], as it was trained, not [0, 1].

Axes: N windows or pictures, C = 3, T frames, H x W pixels, P = 68 points, D = 2, F features.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mssync.metrics import frechet

SIDE_PX = 224
RENDERER = f"one pixel a landmark, {SIDE_PX} x {SIDE_PX}, jaw red, upper face green, lips blue"
_PARTS = ((0, 17), (17, 48), (48, 68))  # points of the red, green and blue channel
_LARGEST = 0.99  # of the crop: what lies beyond is drawn at its edge
_PICTURES, _VIDEOS = 40, 4  # in a batch

Network = Callable[[Tensor], Tensor]
Motions = Sequence[NDArray[np.float32]]
Features = NDArray[np.float64]


def draw(motion_TPD: NDArray[np.float32]) -> Tensor:
    """A motion (T, 68, 2) in crop sides as pictures: float (3, T, 224, 224), 0 or 1."""
    pixels_TPD = torch.from_numpy(motion_TPD).clamp(0, _LARGEST).mul(SIDE_PX).long()
    pictures_CTHW = torch.zeros(len(_PARTS), len(motion_TPD), SIDE_PX, SIDE_PX)
    frame_T1 = torch.arange(len(motion_TPD))[:, None]
    for channel, (first, end) in enumerate(_PARTS):
        x_TP, y_TP = pixels_TPD[:, first:end].unbind(-1)
        pictures_CTHW[channel, frame_T1, y_TP, x_TP] = 1
    return pictures_CTHW


def frame_features(
    motions: Motions, inception: Network, device: torch.device, *, every_frames: int
) -> Features:
    """Features of FID: one picture in `every_frames` of each 40-frame window -> (N, 2048)."""
    pictures = (
        picture_CHW
        for window_TPD in frechet.windows(motions)
        for picture_CHW in draw(window_TPD[::every_frames]).unbind(1)
    )
    return _features(pictures, inception, device, _PICTURES)


def time_features(motions: Motions, inception: Network, device: torch.device) -> Features:
    """Features of t-FID: one weighted sum of pictures a 40-frame window -> (N, 2048)."""
    weights_T = torch.from_numpy(frechet.time_weights()).float()
    sums = (
        torch.einsum("cthw,t->chw", draw(window_TPD), weights_T)
        for window_TPD in frechet.windows(motions)
    )
    return _features(sums, inception, device, _PICTURES)


def video_features(motions: Motions, i3d: Network, device: torch.device) -> Features:
    """Features of FVD: each 40-frame window as a video -> (N, 400)."""
    return _features(map(draw, frechet.windows(motions)), i3d, device, _VIDEOS)


def _features(
    inputs: Iterator[Tensor], network: Network, device: torch.device, batch: int
) -> Features:
    found = []
    with torch.inference_mode():
        while given := [value for _, value in zip(range(batch), inputs, strict=False)]:
            found.append(network(torch.stack(given).to(device)).double().cpu())
    return torch.cat(found).numpy()
