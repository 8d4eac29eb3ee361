"""What surrounds 2D-FAN and S3FD: crops, passes, heat maps, boxes; for many faces at a time.

The arithmetic is that of face_alignment 1.5.0, which works on one frame after the other: crops are
equal to the last bit, boxes to rounding. Crops are integer arithmetic, so no device rounds them
otherwise than another.

Axis letters: N pictures or faces, H rows, W columns, C colours, P = 68 points, D = 2 (x, y),
B = 4 sides of a box (left, top, right, bottom), A anchors of the detector.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from face_alignment.detection.sfd.bbox import nms
from numpy.typing import NDArray
from torch import Tensor

from mssync.landmarks.ibug import FLIP

CROP_PX = 256
CELLS = 64  # of a heat map, along either axis

# Yaw, brows and chin fit into a crop of 200/195 of the mean of the box's sides, its middle 0.12 of
# the height above the box's: what 2D-FAN was trained on.
_RAISE = 0.12
_REFERENCE = 195.0
_CROP_SCALE = 200.0

# OpenCV's bilinear resize of bytes: weights in 1/2048, sums cut to 16 bits on the way.
_WEIGHT_ONE = 2048

# Windowed centroid (Bertin's XWIN, SExtractor manual, "Windowed positional parameters"): a
# Gaussian window that moves with the estimate, which a symmetric peak of any width does not bias.
_WINDOW_CELLS = 3  # to either side
_WINDOW_SIGMA_CELLS = 1.0
_WINDOW_STEPS = 10

# S3FD (Zhang et al. 2017): six maps of strides 4 to 128, an anchor of four strides in each cell.
_FIRST_STRIDE_PX = 4
_ANCHOR_STRIDES = 4
_VARIANCES = (0.1, 0.2)
_LEAST_SCORE = 0.05
_OVERLAP = 0.3
_MEAN_BGR = (104.0, 117.0, 123.0)
LEAST_SIDE_PX = 32  # five halvings leave one cell


@dataclass(frozen=True)
class Crops:
    """Squares that are cut from pictures, one per face.

    Attributes:
        centre_ND: Their centres, in pixels of the picture, float64.
        side_N: Their side, in pixels of the picture, float64.
        corners_NB: Their sides in whole pixels, half-open; they may reach beyond the picture.
    """

    centre_ND: NDArray[np.float64]
    side_N: NDArray[np.float64]
    corners_NB: NDArray[np.int64]

    def to_picture(self, cells_NPD: NDArray[np.float32], *, whole_px: bool) -> NDArray[np.float32]:
        """Points in the picture.

        Args:
            cells_NPD: Points in the heat maps, (N, 68, 2), in cells from their corner.
            whole_px: As the package does it: the fraction of a pixel is cut off, so that points
                lie half a pixel to the upper left on average. Else they are counted from the
                picture's corner: 0.5 is the middle of the first pixel.

        Returns:
            In pixels, float32 (N, 68, 2).
        """
        if not whole_px:
            corner_ND = self.corners_NB[:, None, :2]
            size_ND = self.corners_NB[:, None, 2:] - corner_ND
            placed: NDArray[np.float32] = (corner_ND + cells_NPD * (size_ND / CELLS)).astype(
                np.float32
            )
            return placed
        scale_N = CELLS / self.side_N
        shift_ND = CELLS * (0.5 - self.centre_ND / self.side_N[:, None])
        exact = (cells_NPD - shift_ND[:, None]) / scale_N[:, None, None]
        cut: NDArray[np.float32] = np.trunc(exact).astype(np.float32)
        return cut


def place(boxes_NB: NDArray[np.float64]) -> Crops:
    """Where the crop of each face lies.

    Args:
        boxes_NB: Boxes of faces, as S3FD draws them, in pixels.
    """
    left, top, right, bottom = np.asarray(boxes_NB, np.float64).reshape(-1, 4).T
    centre_ND = np.stack(
        [right - (right - left) / 2, bottom - (bottom - top) / 2 - (bottom - top) * _RAISE], axis=1
    )
    side_N = np.maximum(_CROP_SCALE * ((right - left + bottom - top) / _REFERENCE), 1.0)
    # In float32 and inverted by LAPACK, as the package does: it decides where whole pixels end.
    to_crop = torch.eye(3).repeat(len(side_N), 1, 1)
    to_crop[:, 0, 0] = to_crop[:, 1, 1] = torch.from_numpy(CROP_PX / side_N)
    to_crop[:, :2, 2] = torch.from_numpy(CROP_PX * (-centre_ND / side_N[:, None] + 0.5))
    to_picture = torch.inverse(to_crop).numpy()
    scale_N1, shift_ND = to_picture[:, 0, :1], to_picture[:, :2, 2]
    first_ND = np.trunc(scale_N1 + shift_ND).astype(np.int64)
    end_ND = np.trunc(scale_N1 * np.float32(CROP_PX) + shift_ND).astype(np.int64)
    return Crops(
        centre_ND, side_N, np.concatenate([first_ND, np.maximum(end_ND, first_ND + 1)], axis=1)
    )


def cut(pictures_NHWC: Tensor, corners_NB: NDArray[np.int64]) -> Tensor:
    """Cut a square from each picture and resize it, on the pictures' device.

    Equal to the last bit to OpenCV's `resize` (bilinear, bytes) of the square; beyond the
    picture it is black.

    Args:
        pictures_NHWC: RGB, uint8.
        corners_NB: What to cut, in whole pixels, half-open.

    Returns:
        uint8 (N, 3, 256, 256).
    """
    device = pictures_NHWC.device
    height, width = pictures_NHWC.shape[1:3]
    columns = _taps(corners_NB[:, 0], corners_NB[:, 2], width, edge=True)
    rows = _taps(corners_NB[:, 1], corners_NB[:, 3], height, edge=False)
    # In one piece: each transfer costs time of its own.
    taps = upload(np.concatenate([columns, rows]), device)
    left, right, top, bottom = taps[:, 0].to(torch.int64)
    left_weight, right_weight, top_weight, bottom_weight = taps[:, 1]
    picture_N11 = torch.arange(len(pictures_NHWC), device=device)[:, None, None]

    def blended_row(row: Tensor, weight: Tensor) -> Tensor:
        blended = pictures_NHWC[picture_N11, row[:, :, None], left[:, None]].to(torch.int32)
        blended *= left_weight[:, None, :, None]
        other = pictures_NHWC[picture_N11, row[:, :, None], right[:, None]].to(torch.int32)
        blended += other.mul_(right_weight[:, None, :, None])
        return (blended >> 4).mul_(weight[:, :, None, None]) >> 16

    blended = blended_row(top, top_weight).add_(blended_row(bottom, bottom_weight)).add_(2) >> 2
    return blended.to(torch.uint8).permute(0, 3, 1, 2).contiguous()


def _taps(
    start_N: NDArray[np.int64], end_N: NDArray[np.int64], length: int, *, edge: bool
) -> NDArray[np.int32]:
    """The two source pixels of each pixel of the crop along one axis, and their weights.

    Args:
        start_N: First pixel.
        end_N: One past the last.
        length: Of the picture along this axis; pixels outside weigh nothing.
        edge: Whether one pixel alone counts at the crop's edges, as OpenCV has it for columns;
            for rows it is split in two, which rounds otherwise.

    Returns:
        (2, 2, N, 256): of the first and the second pixel, its index and its weight in 1/2048.
    """
    size_N1 = (end_N - start_N)[:, None]
    exact = ((np.arange(CROP_PX) + 0.5) * (size_N1 / CROP_PX) - 0.5).astype(np.float32)
    first = np.floor(exact).astype(np.int64)
    fraction = exact - first.astype(np.float32)
    if edge:
        fraction[(first < 0) | (first >= size_N1 - 1)] = 0
    taps = []
    for offset, share in ((0, 1 - fraction), (1, fraction)):
        index = np.clip(first + offset, 0, size_N1 - 1) + start_N[:, None]
        inside = (index >= 0) & (index < length)
        taps.append((np.clip(index, 0, length - 1), np.rint(share * _WEIGHT_ONE) * inside))
    return np.array(taps, np.int32)


def upload(array: NDArray[Any], device: torch.device) -> Tensor:
    """An array on the device; on CUDA, nobody waits for the transfer."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor


def heat_maps(
    network: Callable[[Tensor], Sequence[Tensor]],
    crops_NCHW: Tensor,
    *,
    flip: bool,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """One pass of 2D-FAN: the last of its stacks.

    Args:
        network: 2D-FAN.
        crops_NCHW: uint8 (N, 3, 256, 256).
        flip: The mean with the maps of the mirrored crops.
        dtype: What the network computes in.

    Returns:
        float32 (N, 68, 64, 64); values of a trained network lie around [0, 1].
    """
    pixels = crops_NCHW.to(torch.float32).div_(255.0)
    pixels = pixels.to(dtype=dtype, memory_format=torch.channels_last)
    maps = network(pixels)[-1].to(torch.float32)
    if flip:
        mirrored = network(pixels.flip(-1))[-1].to(torch.float32)
        maps = (maps + mirrored[:, upload(FLIP, maps.device)].flip(-1)) / 2
    return maps


def decode(maps_NPHW: Tensor, *, subpixel: bool) -> Tensor:
    """Where the peak of each heat map is, and how high.

    Args:
        maps_NPHW: (N, 68, 64, 64), float32.
        subpixel: By a windowed centroid; else by the package's rule: the highest cell, and a
            quarter of a cell towards its higher neighbour along each axis.

    Returns:
        float32 (N, 68, 3): x and y in cells from the map's corner, so that the first cell's middle
        is 0.5, and the value of the highest cell.
    """
    peak_NP, index_NP = maps_NPHW.flatten(2).max(dim=-1)
    size = maps_NPHW.shape[-1]
    column_NP, row_NP = index_NP % size, index_NP // size
    find = _centroid if subpixel else _quarter
    offset_x, offset_y = find(maps_NPHW, column_NP, row_NP)
    return torch.stack([column_NP + 0.5 + offset_x, row_NP + 0.5 + offset_y, peak_NP], dim=-1)


def _window(
    maps_NPHW: Tensor, column_NP: Tensor, row_NP: Tensor, reach: int
) -> tuple[Tensor, Tensor]:
    """The cells around one of each map, (N, P, K, K), K = 2 reach + 1; and which may be used.

    A cell counts if it and its mirror image lie within the map: what is cut off on one side only
    would draw a peak to the other.
    """
    size = maps_NPHW.shape[-1]
    offsets = torch.arange(-reach, reach + 1, device=maps_NPHW.device)
    columns, rows = column_NP[..., None] + offsets, row_NP[..., None] + offsets

    def usable(cells: Tensor) -> Tensor:
        inside = (cells >= 0) & (cells < size)
        return inside & inside.flip(-1)

    index = rows.clamp(0, size - 1)[..., :, None] * size + columns.clamp(0, size - 1)[..., None, :]
    values = maps_NPHW.flatten(2).gather(2, index.flatten(2)).view(index.shape)
    return values, usable(rows)[..., :, None] & usable(columns)[..., None, :]


def _quarter(maps_NPHW: Tensor, column_NP: Tensor, row_NP: Tensor) -> tuple[Tensor, Tensor]:
    values, usable = _window(maps_NPHW, column_NP, row_NP, 1)
    inner = usable.all(dim=-1).all(dim=-1) * 0.25
    across = (values[..., 1, 2] - values[..., 1, 0]).sign()
    down = (values[..., 2, 1] - values[..., 0, 1]).sign()
    return across * inner, down * inner


def _centroid(maps_NPHW: Tensor, column_NP: Tensor, row_NP: Tensor) -> tuple[Tensor, Tensor]:
    values, usable = _window(maps_NPHW, column_NP, row_NP, _WINDOW_CELLS)
    values = values.clamp(min=0) * usable
    offsets = torch.arange(-_WINDOW_CELLS, _WINDOW_CELLS + 1, device=maps_NPHW.device)
    x = torch.zeros_like(values[..., 0, 0])
    y = torch.zeros_like(x)
    for _ in range(_WINDOW_STEPS):
        to_x, to_y = offsets - x[..., None], offsets - y[..., None]
        square = to_x.square()[..., None, :] + to_y.square()[..., :, None]
        weights = values * torch.exp(square / (-2 * _WINDOW_SIGMA_CELLS**2))
        total = weights.sum(dim=(-2, -1)).clamp(min=1e-12)
        # Twice the step: the window pulls a peak of its own width half of the way back.
        x = (x + 2 * (weights.sum(dim=-2) * to_x).sum(dim=-1) / total).clamp(-1, 1)
        y = (y + 2 * (weights.sum(dim=-1) * to_y).sum(dim=-1) / total).clamp(-1, 1)
    return x, y


def find_boxes(
    network: Callable[[Tensor], Sequence[Tensor]], pictures_NHWC: Tensor, *, least_score: float
) -> list[NDArray[np.float64]]:
    """One pass of S3FD.

    Args:
        network: S3FD.
        pictures_NHWC: RGB, uint8, on the network's device; sides of at least `LEAST_SIDE_PX`.
        least_score: Boxes must score more.

    Returns:
        A picture's faces, best first, (faces, 5): left, top, right, bottom in pixels, score.
    """
    pixels = pictures_NHWC.permute(0, 3, 1, 2).to(torch.float32).flip(1)
    pixels = pixels - torch.tensor(_MEAN_BGR, device=pixels.device).view(1, 3, 1, 1)
    outputs = network(pixels.contiguous(memory_format=torch.channels_last))
    levels = list(zip(outputs[::2], outputs[1::2], strict=True))
    scores_NA = torch.cat(
        [torch.softmax(classes, dim=1)[:, 1].flatten(1) for classes, _ in levels], dim=1
    )
    shifts_NAB = torch.cat(
        [shifts.permute(0, 2, 3, 1).flatten(1, 2) for _, shifts in levels], dim=1
    )
    found_N, found_A = (scores_NA > max(least_score, _LEAST_SCORE)).nonzero(as_tuple=True)
    scores = scores_NA[found_N, found_A].cpu().numpy()
    shifts = shifts_NAB[found_N, found_A].cpu().numpy()
    picture, anchor = found_N.cpu().numpy(), found_A.cpu().numpy()
    anchors_A3 = np.concatenate(
        [_anchors(level, *classes.shape[2:]) for level, (classes, _) in enumerate(levels)]
    )
    boxes = np.column_stack([_boxes(shifts, anchors_A3[anchor]), scores])
    of_pictures = (boxes[picture == index] for index in range(len(pictures_NHWC)))
    return [boxes[nms(boxes, _OVERLAP)].reshape(-1, 5) for boxes in of_pictures]


def _anchors(level: int, rows: int, columns: int) -> NDArray[np.float64]:
    """Centre x, centre y and side of a map's anchors, row by row, in pixels: (A, 3)."""
    stride_px = _FIRST_STRIDE_PX * 2**level
    y, x = np.mgrid[:rows, :columns].reshape(2, -1) * stride_px + stride_px / 2
    return np.stack([x, y, np.full(len(x), float(_ANCHOR_STRIDES * stride_px))], axis=1)


def _boxes(shifts: NDArray[np.float32], anchors: NDArray[np.float64]) -> NDArray[np.float64]:
    centre, side = anchors[:, :2], anchors[:, 2:]
    middle = centre + shifts[:, :2] * _VARIANCES[0] * side
    size = side * np.exp(shifts[:, 2:] * _VARIANCES[1])
    start = middle - size / 2
    return np.concatenate([start, start + size], axis=1)
