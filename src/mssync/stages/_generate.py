"""What `mssync generate` does: a face and a sound in, the face moved by the sound out.

Axes: T frames (25 Hz), A audio rows (100 Hz), M mel bands, P = 68 points, D = 2.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mssync import log, tracking
from mssync.audio.features import stream_log_mel
from mssync.device import one_thread, prepare
from mssync.errors import ClipRejectedError, InputError, ToolError
from mssync.landmarks import crop, ibug
from mssync.landmarks.detector import open_backend
from mssync.landmarks.single import find_face
from mssync.media import ffmpeg
from mssync.media.decode import Frame
from mssync.media.recording import Recording, record
from mssync.media.sandbox import Sandbox
from mssync.media.still import read_still
from mssync.media.store import digest
from mssync.models import inference
from mssync.models.generator import Generator
from mssync.params import Params
from mssync.render import draw
from mssync.render.puppet import puppet
from mssync.stages import _motion
from mssync.stages._motion import Motion
from mssync.timing import FRAME_RATE_HZ, frame_time_s
from mssync.trained import checkpoint
from mssync.trained.networks import GENERATOR, load_generator

logger = logging.getLogger(__name__)

VIDEO = ".mp4"
Precision = Literal["float32", "bfloat16"]
_DRAWN_PX = 512
_READ_S = 300.0  # a frame late in a long video is found by decoding all before it


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        source: Photo or video of the face.
        audio: Sound.
        outs: Files to write: `.mp4` with the landmarks drawn, `.npz`, `.parquet`.
        preview: MP4 of the source's picture moved by the landmarks; None: none.
        at_s: Which moment of a video; None: its first frame.
        face: Number of the face from the left, from 1; 0: the widest.
        force: Replace files that are there.
        precision: What the generator's weights are stored as while it runs.
    """

    source: Path
    audio: Path
    outs: Sequence[Path]
    preview: Path | None = None
    at_s: float | None = None
    face: int = 0
    force: bool = False
    precision: Precision = "float32"


@dataclass(frozen=True)
class Choice:
    """Which generator; of several that are given the first counts.

    Attributes:
        folder: Its checkpoint.
        run_id: Run of the tracking store whose artifact it is.
        champion: The registry's champion.
    """

    folder: Path
    run_id: str = ""
    champion: bool = False


@dataclass(frozen=True)
class Generated:
    """What was made.

    Attributes:
        files: Written, in the order asked for.
        frames: Length.
        model: Where the generator came from, for the reader.
        provenance: What the files say of their origin.
    """

    files: Sequence[Path]
    frames: int
    model: str
    provenance: dict[str, object] = field(default_factory=dict)


def run(request: Request, choice: Choice, params: Params) -> Generated:
    """Animate a face with a sound.

    All files are there in the end, or none; memory does not grow with the length of the sound.

    Args:
        request: Face, sound, files.
        choice: The generator.
        params: Detector, features, crop, device and tracking store.

    Raises:
        InputError: If something asked for is missing, unreadable, has no face or no sound, or a
            file is there already.
        ParamsError: If there is no such device, or the sound's features are not the model's.
        ToolError: If ffmpeg or the tracking store fails.
    """
    _check_targets(request)
    with TemporaryDirectory(prefix="mssync-") as name:
        scratch = Path(name)
        generator, sha256, model = _open_model(choice, params, scratch)
        still, taken_s = _read_source(request, params)
        with open_backend(params.extract_landmarks, device=params.run.device) as backend:
            source_PD = find_face(
                still, backend, name=f"--source {request.source}", face=request.face
            )
        memory_bytes = params.extract_landmarks.process_bytes
        recording = record(request.audio, scratch, memory_bytes=memory_bytes)
        square = _square(source_PD, generator, params.build_dataset.crop_scale)
        motion = Motion(scratch / "motion.npy", *square)
        _generate(generator, source_PD, recording, motion, params, request.precision)
        provenance: dict[str, object] = {
            "model_sha256": sha256,
            "model": model,
            "source": request.source.name,
            "source_sha256": digest(request.source),
            "source_time_s": taken_s,
            "source_landmarks_px": source_PD.tolist(),
            "audio": request.audio.name,
            "audio_sha256": digest(request.audio),
            "precision": request.precision,
            "backend": params.extract_landmarks.backend,
            "synthetic": True,
        }
        _write_all(request, motion, recording, still, source_PD, provenance)
    files = [*request.outs, *([request.preview] if request.preview else [])]
    return Generated(files, recording.frames, model, provenance)


def _check_targets(request: Request) -> None:
    """Refuse what cannot be written before anything is computed."""
    for option, out in [("--out", out) for out in request.outs] + [("--preview", request.preview)]:
        if out is None:
            continue
        allowed = (VIDEO,) if option == "--preview" else (VIDEO, *_motion.SUFFIXES)
        if out.is_dir():
            raise InputError(f"{option} {out} is a folder: name a file in it")
        if out.suffix.lower() not in allowed:
            raise InputError(f"{option} {out}: expected a file that ends in {' or '.join(allowed)}")
        for given in (request.source, request.audio):
            if out.exists() and given.exists() and out.samefile(given):
                raise InputError(f"{option} {out} is what is read: name another file")
        if out.exists() and not request.force:
            raise InputError(f"{option} {out} is there already: name another file, or --force")
    targets = [out.resolve() for out in (*request.outs, request.preview) if out]
    if len(set(targets)) < len(targets):
        raise InputError("--out and --preview name one file twice: name another one")


def _open_model(choice: Choice, params: Params, scratch: Path) -> tuple[Generator, str, str]:
    """The generator, its digest, and where it came from."""
    uri = params.paths.tracking_uri
    if choice.run_id:
        folder = tracking.download(uri, choice.run_id, GENERATOR, scratch)
        named = f"run {choice.run_id}"
    elif choice.champion:
        champion = tracking.champion(uri, params.paths.model_name)
        if champion is None:
            raise InputError(
                f"the registry has no champion of {params.paths.model_name}: mssync promote "
                "--apply makes one; --model names a checkpoint"
            )
        folder, named = champion.folder, f"champion, version {champion.version}"
    else:
        inner = choice.folder / GENERATOR
        folder = inner if (inner / checkpoint.METADATA).is_file() else choice.folder
        if not (folder / checkpoint.METADATA).is_file():
            raise InputError(
                f"--model {choice.folder} holds no checkpoint ({checkpoint.METADATA}): expected a "
                "folder that train-generator wrote (make demo writes models/generator), or --run "
                "with the id of an MLflow run, or --champion"
            )
        named = str(folder)
    generator = load_generator(folder, prepare(params.run))
    bands = generator.audio.standardise.mean_C.numel()
    if bands != params.extract_audio.mel_bands:
        raise InputError(
            f"the generator ({named}) hears {bands} mel bands, extract_audio.mel_bands is "
            f"{params.extract_audio.mel_bands}: name the parameters it was trained with (--params)"
        )
    return generator, checkpoint.sha256(folder), named


def _read_source(request: Request, params: Params) -> tuple[Frame, float]:
    source, limits = request.source, params.extract_landmarks
    if not source.is_file():
        found = "is a folder" if source.is_dir() else "does not exist"
        raise InputError(f"--source {source} {found}: name a photo (png, jpg) or a video")
    try:
        with Sandbox(memory_bytes=limits.process_bytes) as sandbox:
            return sandbox.call(
                _still, source, request.at_s, limits.max_side_px, limits.max_pixels, wall_s=_READ_S
            )
    except ClipRejectedError as error:
        raise InputError(
            f"--source {source}: {error}. Expected a photo (png, jpg) or a video"
        ) from error


def _still(
    source: Path, at_s: float | None, max_side_px: int, max_pixels: int
) -> tuple[Frame, float]:
    return read_still(source, at_s, max_side_px=max_side_px, max_pixels=max_pixels)


def _square(
    source_PD: NDArray[np.float32], generator: Generator, crop_scale: float
) -> tuple[float, float, float]:
    """Left, top and side of the crop, such that the face lies where the model's training had it."""
    mean_PD = generator.standardise.mean_C.view(ibug.POINTS, 2).cpu().numpy()
    if mean_PD.any():
        return crop.crop_like(source_PD, mean_PD)
    return crop.square_crop(source_PD[None], crop_scale)  # it was trained without statistics


def _generate(
    generator: Generator,
    source_PD: NDArray[np.float32],
    recording: Recording,
    motion: Motion,
    params: Params,
    precision: Precision,
) -> None:
    """Stream the sound through the generator into the motion's file."""
    device = generator.standardise.mean_C.device
    corner = np.array([motion.left_px, motion.top_px], np.float32)
    unit_PD = (source_PD - corner) / np.float32(motion.side_px)
    rows = stream_log_mel(
        recording.blocks(),
        mean=recording.mean,
        peak=recording.peak,
        pre_emphasis=params.extract_audio.pre_emphasis,
        mel_bands=params.extract_audio.mel_bands,
    )
    prepared = inference.prepare(generator, dtype=getattr(torch, precision))
    frames = prepared.stream(
        torch.from_numpy(unit_PD).to(device), (torch.from_numpy(each).to(device) for each in rows)
    )
    told = log.progress(frames, total=recording.frames, what="frames")
    # where cores are shared with other programs, two threads took ten times as long as one
    with one_thread():
        _motion.collect(_finite(told), motion.path, count=recording.frames)


def _finite(frames: Iterator[torch.Tensor]) -> Iterator[NDArray[np.float32]]:
    for number, points_PD in enumerate(frames):
        if not torch.isfinite(points_PD).all():
            raise ToolError(
                f"the motion is no number any more from {frame_time_s(number):.2f} s on: the "
                "generator diverges on this sound. Use another model, or shorter sound"
            )
        yield points_PD.cpu().numpy()


def _write_all(
    request: Request,
    motion: Motion,
    recording: Recording,
    still: Frame,
    source_PD: NDArray[np.float32],
    provenance: dict[str, object],
) -> None:
    """Write every file under another name, then rename them all."""
    crop_TPD = motion.crop_units()
    sound = ffmpeg.SoundTrack(recording.path, frame_time_s(recording.frames))
    comment = f"synthetic motion, mssync, model {provenance['model_sha256']}"
    with ExitStack() as leftovers:
        written = list[tuple[Path, Path]]()

        def aside(target: Path) -> Path:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.absolute().with_name(f".{target.name}.writing")
            leftovers.callback(temporary.unlink, missing_ok=True)
            written.append((temporary, target))
            return temporary

        for out in request.outs:
            suffix = out.suffix.lower()
            if suffix == VIDEO:
                drawn = (draw.frame(points_PD, _DRAWN_PX) for points_PD in crop_TPD)
                ffmpeg.encode(drawn, aside(out), fps_hz=FRAME_RATE_HZ, sound=sound, comment=comment)
            else:
                _motion.write(motion, aside(out), suffix, provenance)
        if request.preview:
            shown = (
                motion.in_source(points_PD) / np.float32(still.scale) for points_PD in crop_TPD
            )
            pictures = puppet(still.picture_HWC, source_PD / np.float32(still.scale), shown)
            ffmpeg.encode(
                pictures,
                aside(request.preview),
                fps_hz=FRAME_RATE_HZ,
                sound=sound,
                crf=21,
                comment=comment,
            )
        for temporary, target in written:
            temporary.replace(target)
