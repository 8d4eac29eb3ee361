"""face_alignment's networks, batched: S3FD finds faces, 2D-FAN their 68 points. Likes a GPU.

One backend serves all clips, a thread each. Faces of several clips share one pass of 2D-FAN
(`batching`), pictures of one size one pass of S3FD; crops are made and heat maps decoded on the
device (`fan`). On CUDA a batch is filled up with black crops, because another size may choose
another kernel and so round otherwise: what shares a batch with a face never changes its points. On
a CPU batches are not filled up, which would cost time: there, `fan_batch` above 1 may change the
last bits of a heat map, and gains nothing.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from face_alignment.detection.sfd.net_s3fd import s3fd
from face_alignment.models import FAN
from numpy.typing import NDArray
from torch import Tensor, nn

from mssync import device as devices
from mssync.landmarks import fan, weights
from mssync.landmarks.batching import Batcher
from mssync.landmarks.detector import Backend, Box, Face, Picture
from mssync.params import ExtractLandmarks

logger = logging.getLogger(__name__)

# The peak of a heat map is trained towards 1 for a point that is seen, and the mean of 68 says how
# well they are; it is no probability. Half of what a detector's score must reach: a face that is
# turned or covered in part has low peaks in that part only.
_PEAK_SHARE = 0.5

_STACKS = 4
_CUT_PICTURES = 16  # at a time: bounds what lies on the device for one clip
_DETECT_PIXELS = 2_000_000  # of one pass of S3FD; its first maps take 256 bytes a pixel each
_DETECT_PICTURES = 16
_PATIENCE_S = 0.005  # short against a pass over a full batch


class FaceAlignmentBackend:
    """See `mssync.landmarks.detector.Backend`.

    Args:
        points: 2D-FAN, on the device.
        detector: S3FD, on the device.
        params: The stage's section.
        device: Where both are.
    """

    shared = True

    def __init__(
        self,
        points: nn.Module,
        detector: nn.Module,
        params: ExtractLandmarks,
        device: torch.device,
    ) -> None:
        self._points = points
        self._detector = detector
        self._params = params
        self._device = device
        self._on_cuda = device.type == "cuda"
        self._dtype = next(points.parameters()).dtype
        names = " ".join(Path(needed.url).name for needed in weights.required())
        self.identity = (
            f"face-alignment {version('face-alignment')} {names} {device.type} {self._dtype}"
        )
        patience_s = _PATIENCE_S if self._on_cuda else 0.0
        self._faces = Batcher[Tensor, NDArray[np.float32]](
            self._begin_points, max_items=params.fan_batch, patience_s=patience_s
        )
        self._pictures = Batcher[Picture, list[Box]](
            self._begin_detection,
            max_items=_DETECT_PICTURES if self._on_cuda else 1,
            patience_s=patience_s,
        )

    def close(self) -> None:
        """End both serving threads."""
        self._faces.close()
        self._pictures.close()

    def detect(self, pictures: Sequence[Picture]) -> list[list[Box]]:
        """Find all faces in each picture, best first; none in one with a side below 32 px."""
        return self._pictures.submit(pictures)

    def landmarker(self) -> "FaceAlignmentLandmarker":
        """What follows one face; 2D-FAN itself remembers nothing."""
        return FaceAlignmentLandmarker(self)

    def points(self, pictures: Sequence[Picture], boxes: Sequence[Box]) -> list[Face | None]:
        """Find the points of one face in each picture; None where their peaks are too low."""
        if not pictures:
            return []
        sides = [(box.left, box.top, box.right, box.bottom) for box in boxes]
        crops = fan.place(np.array(sides))
        with torch.inference_mode():
            cut = self._cut(pictures, crops.corners_NB)
        found = np.stack(self._faces.submit(cut))
        points_NPD = crops.to_picture(found[..., :2], whole_px=not self._params.fan_subpixel)
        confidence_N = found[..., 2].clip(0, 1).mean(axis=1)
        least = self._params.tracking_confidence * _PEAK_SHARE
        return [
            Face(points_PD, float(confidence)) if confidence >= least else None
            for points_PD, confidence in zip(points_NPD, confidence_N, strict=True)
        ]

    def _cut(self, pictures: Sequence[Picture], corners_NB: NDArray[np.int64]) -> list[Tensor]:
        """The crop of each picture, on the device."""
        cut = list[Tensor]()
        for _, alike in groupby(range(len(pictures)), lambda index: pictures[index].shape):
            indices = list(alike)
            for start in range(0, len(indices), _CUT_PICTURES):
                some = indices[start : start + _CUT_PICTURES]
                cut.extend(self._cut_alike([pictures[index] for index in some], corners_NB[some]))
        return cut

    def _cut_alike(self, pictures: Sequence[Picture], corners_NB: NDArray[np.int64]) -> Tensor:
        height, width = pictures[0].shape[:2]
        # Only what the crops show goes to the device.
        left, top = np.clip(corners_NB[:, :2].min(axis=0), 0, (width - 1, height - 1))
        right, bottom = np.clip(corners_NB[:, 2:].max(axis=0), (left + 1, top + 1), (width, height))
        shown = np.stack([picture[top:bottom, left:right] for picture in pictures])
        return fan.cut(
            fan.upload(shown, self._device), corners_NB - np.array([left, top, left, top])
        )

    def _begin_points(self, crops: list[Tensor]) -> Callable[[], Sequence[NDArray[np.float32]]]:
        with torch.inference_mode():
            batch = torch.stack(crops)
            if self._on_cuda:
                batch = _filled_up(batch, self._params.fan_batch)
            maps = fan.heat_maps(self._points, batch, flip=self._params.fan_flip, dtype=self._dtype)
            found = fan.decode(maps, subpixel=self._params.fan_subpixel)[: len(crops)]
            return _arrival(found)

    def _begin_detection(self, pictures: list[Picture]) -> Callable[[], Sequence[list[Box]]]:
        found: list[list[Box]] = [[] for _ in pictures]

        def shape(index: int) -> tuple[int, ...]:
            return pictures[index].shape

        for (height, width, _), alike in groupby(sorted(range(len(pictures)), key=shape), shape):
            if min(height, width) < fan.LEAST_SIDE_PX:
                continue
            indices = list(alike)
            most = min(_DETECT_PICTURES, max(1, _DETECT_PIXELS // (height * width)))
            for start in range(0, len(indices), most):
                some = indices[start : start + most]
                boxes = self._detect_alike([pictures[index] for index in some], most)
                for index, faces in zip(some, boxes, strict=True):
                    found[index] = faces
        return lambda: found

    def _detect_alike(self, pictures: Sequence[Picture], most: int) -> list[list[Box]]:
        with torch.inference_mode():
            batch = fan.upload(np.stack(pictures), self._device)
            if self._on_cuda:
                batch = _filled_up(batch, most)
            found = fan.find_boxes(
                self._detector, batch, least_score=self._params.detection_confidence
            )
        return [[Box(*map(float, face)) for face in faces] for faces in found[: len(pictures)]]


class FaceAlignmentLandmarker:
    """See `mssync.landmarks.detector.Landmarker`."""

    def __init__(self, backend: FaceAlignmentBackend) -> None:
        self._backend = backend

    def points(
        self,
        pictures: Sequence[Picture],
        boxes: Sequence[Box],
        others: Sequence[Sequence[Box]],
    ) -> list[Face | None]:
        """Find the points of the face in each box; None where their peaks are too low."""
        return self._backend.points(pictures, boxes)


@contextmanager
def face_alignment_backend(params: ExtractLandmarks, *, device: str) -> Iterator[Backend]:
    """Load both networks, and serve until the context ends.

    Args:
        params: The stage's section.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        InputError: If the weights are missing or wrong.
        ParamsError: If there is no such device.
    """
    chosen = devices.choose(device)
    wanted, folder = weights.required(), weights.default_folder()
    weights.check(wanted, folder)
    dtype = _dtype(params, chosen)
    _say_where(chosen, dtype)
    points_weights, detector_weights = (folder / each.name for each in wanted)
    points = _loaded(FAN(_STACKS), points_weights, chosen).to(dtype=dtype)
    detector = _loaded(s3fd(), detector_weights, chosen)
    with ExitStack() as stack:
        backend = FaceAlignmentBackend(points, detector, params, chosen)
        stack.callback(backend.close)
        yield backend


def _loaded(network: nn.Module, path: Path, device: torch.device) -> nn.Module:
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    # A fifth faster on a CPU, and what CUDA's half-precision kernels take.
    network.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _dtype(params: ExtractLandmarks, device: torch.device) -> torch.dtype:
    if not params.fan_bfloat16 or device.type != "cuda":
        return torch.float32
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    logger.warning("face_alignment: this GPU has no bfloat16 (fan_bfloat16): float32 it is")
    return torch.float32


def _say_where(device: torch.device, dtype: torch.dtype) -> None:
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        logger.info("face_alignment runs on %s, 2D-FAN in %s", name, str(dtype).split(".")[-1])
    else:
        logger.warning(
            "face_alignment runs on the CPU, about 100 times slower than the backend mediapipe"
        )


def _filled_up(batch: Tensor, size: int) -> Tensor:
    """With zeros, to a fixed size."""
    padding = batch.new_zeros((size - len(batch), *batch.shape[1:]))
    return torch.cat([batch, padding]) if len(padding) else batch


def _arrival(tensor: Tensor) -> Callable[[], Sequence[NDArray[np.float32]]]:
    """A function that waits until a tensor has been computed, and returns it, row by row."""
    if tensor.device.type != "cuda":
        return lambda: list(tensor.numpy())
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    arrived = torch.cuda.current_stream().record_event()

    def wait() -> Sequence[NDArray[np.float32]]:
        arrived.synchronize()
        return list(host.numpy())

    return wait
