"""Does the chain work here, in small? A second of video, a face, a step of training, a frame.

Axes: B clips, T frames, A audio rows, M mel bands, P = 68 points, D = 2.
"""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from mssync.audio.features import features
from mssync.demo.portrait import load_image
from mssync.doctor.finding import Finding, ok, problem
from mssync.landmarks import crop
from mssync.landmarks.detector import open_backend
from mssync.landmarks.single import find_face
from mssync.media import decode, ffmpeg
from mssync.media.decode import Frame
from mssync.media.sound import read_sound
from mssync.models.generator import Generator
from mssync.params import ExtractAudio, Params
from mssync.render import draw
from mssync.timing import FRAME_RATE_HZ, SAMPLE_RATE_HZ

_FRAMES = 25
_SIZE_PX = 256
_SEED = 0


def run(params: Params) -> Iterator[Finding]:
    """Try each part once, on the demo's portrait and a tone; nothing is left behind.

    Args:
        params: Backend and features.
    """
    with TemporaryDirectory(prefix="mssync-") as folder:
        video = Path(folder) / "second.mp4"
        frame, waveform_N, found = _decode(video)
    yield found
    started_s = time.monotonic()
    with open_backend(params.extract_landmarks, device=params.run.device) as backend:
        points_PD = find_face(frame, backend, name="the demo's portrait")
        eyes_px = float(np.linalg.norm(points_PD[36] - points_PD[45]))
        yield ok(
            "self-test: face",
            f"{backend.identity} finds the portrait's face, eyes {eyes_px:.0f} px apart, in "
            f"{_since(started_s)}",
        )
    left, top, side = crop.square_crop(points_PD[None], params.build_dataset.crop_scale)
    unit_PD = (points_PD - np.array([left, top], np.float32)) / np.float32(side)
    yield from _learn_and_generate(unit_PD, waveform_N, params.extract_audio)


def _decode(video: Path) -> tuple[Frame, NDArray[np.float32], Finding]:
    """Encode a second of the portrait with a tone, and decode it."""
    started_s = time.monotonic()
    picture_HWC = load_image()[:: 512 // _SIZE_PX, :: 512 // _SIZE_PX]
    tone_N = 0.3 * np.sin(np.arange(SAMPLE_RATE_HZ) * 2 * np.pi * 220 / SAMPLE_RATE_HZ)
    ffmpeg.encode(
        [picture_HWC] * _FRAMES,
        video,
        fps_hz=FRAME_RATE_HZ,
        waveform=tone_N.astype(np.float32),
    )
    clock = decode.read_clock(video)
    frames = list(decode.frames(video, clock, max_fps_hz=30, max_side_px=1280, threads=1))
    waveform_N = read_sound(video, clock).waveform_N
    name, took = "self-test: media", _since(started_s)
    if len(frames) == clock.frames == _FRAMES and np.abs(waveform_N).max() > 0.1:
        finding = ok(name, f"a second of video with sound is written and read in {took}")
    else:
        finding = problem(
            name,
            f"{len(frames)} of {_FRAMES} frames come back, sound up to "
            f"{np.abs(waveform_N).max():.2f} of 0.3",
            "try another ffmpeg: IMAGEIO_FFMPEG_EXE, PATH",
        )
    return frames[0], waveform_N, finding


def _learn_and_generate(
    unit_PD: NDArray[np.float32], waveform_N: NDArray[np.float32], params: ExtractAudio
) -> Iterator[Finding]:
    started_s = time.monotonic()
    found = features(
        waveform_N, pre_emphasis=params.pre_emphasis, mel_bands=params.mel_bands, mfcc=params.mfcc
    )
    audio_BAM = torch.from_numpy(found.log_mel_AM)[None]
    wanted_BTPD = torch.from_numpy(unit_PD).expand(1, _FRAMES, -1, -1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        generator = _small_generator(params.mel_bands)
    optimizer = torch.optim.Adam(generator.parameters(), 1e-3)
    before = _step(generator, optimizer, wanted_BTPD, audio_BAM)
    after = _step(generator, optimizer, wanted_BTPD, audio_BAM)
    name, told = "self-test: training", f"the loss goes from {before:.4f} to {after:.4f}"
    if math.isfinite(after) and after < before:
        yield ok(name, f"{told} in a step on the CPU, {_since(started_s)}")
    else:
        yield problem(name, told, "torch computes wrongly here: install it anew (make setup)")
    started_s = time.monotonic()
    frames = list(generator.stream(wanted_BTPD[0, 0], [audio_BAM[0]]))
    drawn = draw.frame(frames[-1].numpy(), _SIZE_PX)
    yield ok(
        "self-test: generation",
        f"{len(frames)} frames of {drawn.shape[0]} px are generated and drawn in "
        f"{_since(started_s)}",
    )


def _small_generator(mel_bands: int) -> Generator:
    return Generator(
        coordinate_hidden=[32, 32],
        width=32,
        temporal_module="transformer",
        temporal=16,
        layers=1,
        heads=1,
        feedforward=32,
        history_frames=40,
        audio_widths=[16, 16, 16, 16],
        branch_width=16,
        branch_blocks=1,
        branch_expansion=2,
        mel_bands=mel_bands,
    )


def _step(
    generator: Generator,
    optimizer: torch.optim.Optimizer,
    wanted_BTPD: torch.Tensor,
    audio_BAM: torch.Tensor,
) -> float:
    made_BTPD = generator(wanted_BTPD[:, : generator.observed_frames], audio_BAM)
    loss = (made_BTPD - wanted_BTPD).abs().mean()
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()
    return float(loss.detach())


def _since(started_s: float) -> str:
    return f"{time.monotonic() - started_s:.1f} s"
