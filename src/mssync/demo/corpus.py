"""The synthetic corpus: videos of talking heads, their true landmarks, and the list of them.

    media/<speaker>/<clip>.mp4     25 fps, H.264 and AAC
    truth/<speaker>/<clip>.npz     landmarks_TPD float32 (T, 68, 2) in pixels, lag_frames,
                                   frame_rate_hz
    sources.csv                    the list that download-videos reads
    portrait.npz                   the portrait's knots, found once
    corpus.json                    what was made; `making.json` while it is being made

A clip depends on the specification and its own name only, so a killed run is taken up where it
stopped.
"""

import csv
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mssync.errors import InputError
from mssync.log import progress
from mssync.timing import FRAME_RATE_HZ, SAMPLE_RATE_HZ
from mssync.workers import pool

logger = logging.getLogger(__name__)

CODE_VERSION = 1  # raise it when the same specification gives other clips
LICENCE = "public domain (portrait: NASA; sound: synthetic)"
_DONE, _MAKING = "corpus.json", "making.json"
_PORTRAIT = "portrait.npz"
_VOICES = ("auto", "synthesiser", "espeak-ng")


@dataclass(frozen=True)
class CorpusSpec:
    """What to make.

    Attributes:
        speakers: Speakers; the last are for testing, those before them for validation.
        clips_per_speaker: Short clips of each.
        clip_s: Length of a short clip.
        long_clip_s: Length of the one long clip that each test speaker has besides.
        test_speakers: Speakers of the test split.
        val_speakers: Speakers of the validation split.
        size_px: Side of the square frames, a multiple of 4.
        seed: Of everything random.
        voice: `synthesiser`; `espeak-ng`; or `auto`, espeak-ng where it is installed. Only the
            first gives the same corpus on every machine.
        lag_frames: How late the motion is against the sound; negative is early.
    """

    speakers: int = 10
    clips_per_speaker: int = 4
    clip_s: float = 8.0
    long_clip_s: float = 45.0
    test_speakers: int = 2
    val_speakers: int = 2
    size_px: int = 256
    seed: int = 0
    voice: str = "synthesiser"
    lag_frames: int = 0

    def __post_init__(self) -> None:
        if min(self.test_speakers, self.val_speakers) < 0 or self.clips_per_speaker < 1:
            raise ValueError("a corpus needs clips, and splits of no negative size")
        if self.speakers <= self.test_speakers + self.val_speakers:
            raise ValueError(f"of {self.speakers} speakers none is left to train on")
        if self.size_px < 64 or self.size_px % 4:
            raise ValueError(f"size_px must be a multiple of 4 from 64 up, found {self.size_px}")
        if min(self.clip_s, self.long_clip_s) < 1 / FRAME_RATE_HZ:
            raise ValueError("a clip holds at least one frame")
        if self.voice not in _VOICES:
            raise ValueError(f"voice must be one of {', '.join(_VOICES)}, found {self.voice!r}")


@dataclass(frozen=True)
class _Clip:
    speaker: int
    clip: int  # counts within the speaker; the long one is the last
    name: str
    split: str
    duration_s: float

    @property
    def speaker_id(self) -> str:
        return f"speaker_{self.speaker:02d}"

    @property
    def source(self) -> str:
        return f"{self.speaker_id}/{self.name}.mp4"


def make(folder: Path, spec: CorpusSpec, *, workers: int) -> Path:
    """Make the corpus, or what is missing of it.

    Args:
        folder: Created. If it holds a corpus of another specification, that is replaced.
        spec: What to make.
        workers: Processes, at least 1.

    Returns:
        `folder`.

    Raises:
        InputError: If the folder holds something that is no corpus.
        ToolError: If ffmpeg or espeak-ng fails, or MediaPipe sees no face in the portrait.
    """
    if workers < 1:
        raise ValueError(f"at least one worker has to work, found {workers}")
    if spec.voice == "auto":
        found = shutil.which("espeak-ng")
        spec = replace(spec, voice="espeak-ng" if found else "synthesiser")
    identity = {"code_version": CODE_VERSION, **asdict(spec)}
    clips = list(_clips(spec))
    _claim(folder, identity)
    missing = [clip for clip in clips if not _is_made(folder, clip)]
    if not missing and (folder / _DONE).exists() and (folder / "sources.csv").exists():
        return folder

    logger.info("demo corpus: %d of %d clips to make in %s", len(missing), len(clips), folder)
    if missing:
        _ensure_portrait(folder)
        _make_all(folder, spec, missing, workers=workers)
    _write_sources(folder, clips, voice=spec.voice)
    _write_json(folder / _DONE, identity)
    (folder / _MAKING).unlink(missing_ok=True)
    logger.info("demo corpus: done, %d clips", len(clips))
    return folder


def _clips(spec: CorpusSpec) -> Iterator[_Clip]:
    for speaker in range(spec.speakers):
        behind = spec.speakers - speaker  # 1 for the last
        is_test = behind <= spec.test_speakers
        is_val = not is_test and behind <= spec.test_speakers + spec.val_speakers
        split = "test" if is_test else "val" if is_val else "train"
        for clip in range(spec.clips_per_speaker):
            yield _Clip(speaker, clip, f"clip_{clip}", split, spec.clip_s)
        if is_test:
            yield _Clip(speaker, spec.clips_per_speaker, "long", split, spec.long_clip_s)


def _claim(folder: Path, identity: dict[str, object]) -> None:
    """Leave in the folder what belongs to this very corpus, and nothing else of an older one."""
    folder.mkdir(parents=True, exist_ok=True)
    known = [_read_json(folder / name) for name in (_DONE, _MAKING) if (folder / name).exists()]
    if not known and any(path.suffix != ".part" for path in folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no demo corpus: name another folder")
    if known and all(content == identity for content in known):
        return
    _write_json(folder / _MAKING, identity)
    (folder / _DONE).unlink(missing_ok=True)
    for part in ("media", "truth"):
        shutil.rmtree(folder / part, ignore_errors=True)
    for file in (_PORTRAIT, "sources.csv"):
        (folder / file).unlink(missing_ok=True)


def _is_made(folder: Path, clip: _Clip) -> bool:
    return _media(folder, clip).exists() and _truth(folder, clip).exists()


def _media(folder: Path, clip: _Clip) -> Path:
    return folder / "media" / clip.speaker_id / f"{clip.name}.mp4"


def _truth(folder: Path, clip: _Clip) -> Path:
    return folder / "truth" / clip.speaker_id / f"{clip.name}.npz"


def _ensure_portrait(folder: Path) -> None:
    """Find the portrait's knots with MediaPipe, once."""
    path = folder / _PORTRAIT
    if path.exists():
        return
    from mssync.demo.portrait import find_knots, load_image

    _write_arrays(path, knots_KX=find_knots(load_image()))


def _make_all(folder: Path, spec: CorpusSpec, clips: Sequence[_Clip], *, workers: int) -> None:
    """Make the clips in processes of their own, the longest first."""
    ordered = sorted(clips, key=lambda clip: -clip.duration_s)
    with pool(min(workers, len(clips)), prepare=_use_one_thread) as processes:
        futures = [processes.submit(_make_clip, folder, spec, clip) for clip in ordered]
        try:
            finished = progress(as_completed(futures), total=len(futures), what="demo clips")
            for future in finished:
                future.result()
        except BaseException:
            processes.shutdown(wait=False, cancel_futures=True)
            raise


def _use_one_thread() -> None:
    import cv2

    cv2.setNumThreads(1)


def _make_clip(folder: Path, spec: CorpusSpec, clip: _Clip) -> None:
    """Write one clip: truth first, then the video under its final name."""
    from mssync.demo import gestures, speech
    from mssync.demo.portrait import Portrait, load_image
    from mssync.landmarks import ibug
    from mssync.media.ffmpeg import encode

    frames = round(clip.duration_s * FRAME_RATE_HZ)
    speaker = gestures.draw_speaker(_generator(spec, 0, clip.speaker))
    rng = _generator(spec, 1, clip.speaker, clip.clip)
    speak = speech.recite if spec.voice == "espeak-ng" else speech.synthesise
    said = speak(frames / FRAME_RATE_HZ, speaker.voice, rng)

    with np.load(folder / _PORTRAIT) as stored:
        portrait = gestures.dress(Portrait(load_image(), stored["knots_KX"]), speaker)
    in_time_TKD = gestures.targets(portrait.knots_KX, said, speaker, rng, frames=frames)
    shown = np.clip(np.arange(frames) - spec.lag_frames, 0, frames - 1)
    knots_TKD = in_time_TKD[shown]

    _write_arrays(
        _truth(folder, clip),
        landmarks_TPD=(knots_TKD[:, : ibug.POINTS] * spec.size_px).astype(np.float32),
        lag_frames=np.int64(spec.lag_frames),
        frame_rate_hz=np.float64(FRAME_RATE_HZ),
    )
    target = _media(folder, clip)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".part")
    encode(
        (portrait.render(knots_KD, size_px=spec.size_px) for knots_KD in knots_TKD),
        unfinished,
        fps_hz=FRAME_RATE_HZ,
        waveform=said.waveform_N,
        sample_rate_hz=SAMPLE_RATE_HZ,
    )
    unfinished.replace(target)


def _generator(spec: CorpusSpec, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=key))


def _write_sources(folder: Path, clips: Sequence[_Clip], *, voice: str) -> None:
    language = "en" if voice == "espeak-ng" else "zxx"  # ISO 639: no language
    unfinished = folder / "sources.csv.part"
    with unfinished.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["source", "speaker_id", "split", "language", "licence"])
        for clip in clips:
            table.writerow([clip.source, clip.speaker_id, clip.split, language, LICENCE])
    unfinished.replace(folder / "sources.csv")


def _write_arrays(path: Path, **arrays: Any) -> None:  # noqa: ANN401 - as np.savez has it
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)
    unfinished.replace(path)


def _write_json(path: Path, content: dict[str, object]) -> None:
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    unfinished.replace(path)


def _read_json(path: Path) -> object:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): delete the folder") from error
