"""Can a sync expert learn from this dataset? Looked at before a GPU is rented.

A training that stays at chance has few causes: the sound is shifted, or of another clip; faces that
do not move; silence; one person under two names. Each is measured on the clips as models see them.

Axes: T ticks (25 Hz), A = 4 T audio rows (100 Hz), W windows, P = 68 points, D = 2, M mel bands,
K features of a window.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from mssync import pyramid
from mssync.data import dataset
from mssync.data.clips import Clip
from mssync.errors import InputError
from mssync.selection import duplicates, fingerprints
from mssync.selection.offset import Offset, estimate

logger = logging.getLogger(__name__)

# From which a finding is a fault.
_BELIEVED = 0.9
_LONG_FRAMES = 125  # shorter clips seldom hold enough speech to tell an offset
_FEW_BELIEVED = 0.2
_OFFSET_MS = 80.0
_SILENT_RATIO = 0.4
_FROZEN_RATIO = 0.2
_LEVEL = 0.01

_MOSTLY = 0.5
_CONSTANT = 1e-6

_QUIET = 9.2  # nats below the clip's loudest: 40 dB
_SMALLEST_MOVE = 2e-5  # of a point between two ticks, in crop sides; a detector trembles by more

_GROUP = 48
_TRAINING_WINDOWS = 20_000
_TEST_GROUPS = 40
_AXES = 48
_SHARED_AXES = 12
_RIDGE = 0.1


@dataclass(frozen=True)
class Fault:
    """Something that will keep a sync expert from learning.

    Attributes:
        cause: `sound_shifted`, `sound_of_another_clip`, `silence`, `frozen_faces`,
            `one_person_two_names` or `nothing_to_learn`.
        detail: What was found, and what to do.
    """

    cause: str
    detail: str


@dataclass(frozen=True)
class Probe:
    """How well a linear map from mouths to sounds, fitted on some clips, does on others.

    Attributes:
        accuracy: Share of windows whose own sound is the nearest of a group.
        chance: The same for guessing.
        windows: Tried.
        p_value: Of so many hits, or more, by guessing.
        on: Split it was tried on.
    """

    accuracy: float
    chance: float
    windows: int
    p_value: float
    on: str


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        splits: Clips, speakers and minutes of each.
        looked_at: Clips that were looked at.
        offsets_ms: Believed offsets.
        believed_ratio: Share of the clips of 5 s and more whose offset is believed; NaN: none.
        silent_ratio: Share of ticks 40 dB or more below the loudest of their clip.
        frozen_ratio: Share of ticks at which no point moves.
        correlation: Median correlation of mouth opening and level of the sound.
        duplicates: Pairs of clips with footage in common.
        probe: None where there are too few windows.
        faults: In the order of their gravity.
    """

    splits: Mapping[str, Mapping[str, float]]
    looked_at: int
    offsets_ms: Sequence[float]
    believed_ratio: float
    silent_ratio: float
    frozen_ratio: float
    correlation: float
    duplicates: Sequence[tuple[str, str]]
    probe: Probe | None
    faults: Sequence[Fault]


def run(folder: Path, *, most: int, seed: int) -> Findings:
    """Look at a dataset.

    Args:
        folder: The dataset's.
        most: Clips to look at; drawn evenly from larger sets.
        seed: Of every draw.

    Raises:
        InputError: If there is no dataset, or no clip in it.
    """
    version = dataset.load(folder)
    if not version.rows:
        raise InputError(f"{folder} has no clip")
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(version.rows))[:most]
    wanted = {version.rows[number]["clip_id"] for number in chosen}
    clips = sorted(version.clips(only=wanted), key=lambda clip: clip.clip_id)
    everywhere = np.ones(max(clip.frames for clip in clips), bool)
    offsets = [
        estimate(clip.motion_TPD, clip.audio_AM, everywhere[: clip.frames]) for clip in clips
    ]
    findings = Findings(
        splits=dataset.counts(version.rows),
        looked_at=len(clips),
        offsets_ms=[found.offset_ms for found in offsets if found.confidence >= _BELIEVED],
        believed_ratio=_believed(clips, offsets),
        silent_ratio=_share(clips, _silent),
        frozen_ratio=_share(clips, _frozen),
        correlation=float(np.median([_correlation(clip) for clip in clips])),
        duplicates=_pairs(clips),
        probe=_probe(clips, rng),
        faults=[],
    )
    names = {clip.clip_id: clip.speaker_id for clip in clips}
    return Findings(**{**vars(findings), "faults": list(_faults(findings, names))})


def _faults(found: Findings, speakers: Mapping[str, str]) -> list[Fault]:
    faults = []
    if found.silent_ratio >= _SILENT_RATIO:
        faults.append(
            Fault(
                "silence",
                f"{found.silent_ratio:.0%} of the time is silent: raise "
                "build_dataset.min_speech_ratio, or cut the clips to where they talk",
            )
        )
    if found.frozen_ratio >= _FROZEN_RATIO:
        faults.append(
            Fault(
                "frozen_faces",
                f"the face stands still for {found.frozen_ratio:.0%} of the time: lower "
                "build_dataset.max_frozen_ratio, and look at the clips (mssync preview)",
            )
        )
    if len(found.offsets_ms) and abs(np.median(found.offsets_ms)) >= _OFFSET_MS:
        middle = float(np.median(found.offsets_ms))
        faults.append(
            Fault(
                "sound_shifted",
                f"the sound is {abs(middle):.0f} ms {'late' if middle > 0 else 'early'} in most of "
                f"{len(found.offsets_ms)} clips that tell it: mend the source, or set "
                "build_dataset.correct_av_offset",
            )
        )
    if found.believed_ratio < _FEW_BELIEVED:
        faults.append(
            Fault(
                "sound_of_another_clip",
                f"only {found.believed_ratio:.0%} of the clips of 5 s and more show one lag at "
                "which mouth and sound belong together: are the voices dubbed, or the files mixed "
                "up?",
            )
        )
    pairs = [pair for pair in found.duplicates if speakers[pair[0]] != speakers[pair[1]]]
    if pairs:
        first, second = pairs[0]
        faults.append(
            Fault(
                "one_person_two_names",
                f"{first} of {speakers[first]} and {second} of {speakers[second]} show the same "
                f"footage ({len(pairs)} such pairs): give both one speaker_id",
            )
        )
    if not faults and found.probe and found.probe.p_value > _LEVEL:
        faults.append(
            Fault(
                "nothing_to_learn",
                f"a linear map from mouths to sounds is right {found.probe.accuracy:.1%} of the "
                f"time, guessing {found.probe.chance:.1%}: too few clips, or a cause that is not "
                "known here",
            )
        )
    return faults


def _believed(clips: Sequence[Clip], offsets: Sequence[Offset]) -> float:
    """Share of the clips that could tell their offset and do."""
    told = [
        found.confidence >= _BELIEVED
        for clip, found in zip(clips, offsets, strict=True)
        if clip.frames >= _LONG_FRAMES and max(_frozen(clip).mean(), _silent(clip).mean()) < _MOSTLY
    ]
    return float(np.mean(told)) if told else float("nan")


def _share(clips: Sequence[Clip], of: Callable[[Clip], NDArray[np.bool_]]) -> float:
    return float(np.concatenate([of(clip) for clip in clips]).mean())


def _level(clip: Clip) -> NDArray[np.float64]:
    """Log energy of each tick: (T,)."""
    energy_A = np.exp(clip.audio_AM.astype(np.float64)).sum(axis=1)
    level_T: NDArray[np.float64] = np.log(energy_A.reshape(clip.frames, -1).mean(axis=1))
    return level_T


def _silent(clip: Clip) -> NDArray[np.bool_]:
    level_T = _level(clip)
    silent_T: NDArray[np.bool_] = level_T < level_T.max() - _QUIET
    return silent_T


def _frozen(clip: Clip) -> NDArray[np.bool_]:
    """Ticks at which no point moves; smoothing keeps what stands still."""
    moved_T = np.abs(np.diff(clip.motion_TPD, axis=0)).max(axis=(1, 2))
    frozen_T: NDArray[np.bool_] = np.append(moved_T, np.inf) < _SMALLEST_MOVE
    return frozen_T


def _correlation(clip: Clip) -> float:
    """Of the mouth's opening and the sound's level; 0 where either is constant."""
    opening_T = np.linalg.norm(clip.motion_TPD[:, 62] - clip.motion_TPD[:, 66], axis=1)
    level_T = _level(clip)
    if min(opening_T.std(), level_T.std()) < _CONSTANT:
        return 0.0
    return float(np.corrcoef(opening_T, level_T)[0, 1])


def _pairs(clips: Sequence[Clip]) -> list[tuple[str, str]]:
    everyone = np.ones(len(clips), bool)
    found = set()
    for kind, words in (
        (duplicates.SOUND, [fingerprints.of_sound(clip.audio_AM) for clip in clips]),
        (duplicates.MOTION, [fingerprints.of_motion(clip.motion_TPD) for clip in clips]),
    ):
        for match in duplicates.find(words, everyone, kind):
            found.add((clips[match.first].clip_id, clips[match.second].clip_id))
    return sorted(found)


# ---------------------------------------------------------------- the linear probe


def _probe(clips: Sequence[Clip], rng: np.random.Generator) -> Probe | None:
    """Fit canonical correlations on training clips, and look for the sound of held-out mouths."""
    training = [clip for clip in clips if clip.split == "train"]
    held_out, on = [clip for clip in clips if clip.split != "train"], "val and test"
    if not held_out:
        people = sorted({clip.speaker_id for clip in training})
        others = set(people[: len(people) // 2])
        held_out, on = [clip for clip in training if clip.speaker_id in others], "train"
        training = [clip for clip in training if clip.speaker_id not in others]
    if not training or not held_out:
        return None
    motion_WK, sound_WK = _windows(training, rng)
    motion_VK, sound_VK = _windows(held_out, rng)
    group = min(_GROUP, len(motion_VK) // 2)
    if len(motion_WK) < 2 * _AXES or group < 2:
        return None
    score_VV = _fitted(motion_WK, sound_WK)
    groups = min(_TEST_GROUPS, len(motion_VK) // group)
    hits = 0
    for start in range(0, groups * group, group):
        score_GG = score_VV(motion_VK[start : start + group], sound_VK[start : start + group])
        hits += int((score_GG.argmax(axis=1) == np.arange(group)).sum())
    tried = groups * group
    p_value = float(binomtest(hits, tried, 1 / group, alternative="greater").pvalue)
    return Probe(hits / tried, 1 / group, tried, p_value, on)


def _windows(
    clips: Sequence[Clip], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Windows that do not overlap, in random order: motion (W, 680) and sound (W, 20 M).

    Less the clip's mean, so that who it is tells nothing.
    """
    motion, sound = [], []
    for clip in clips:
        count = clip.frames // pyramid.MOTION_WINDOW
        still_PD, calm_M = clip.motion_TPD.mean(axis=0), clip.audio_AM.mean(axis=0)
        used = count * pyramid.MOTION_WINDOW
        motion.append((clip.motion_TPD[:used] - still_PD).reshape(count, -1))
        rows = count * pyramid.AUDIO_WINDOW
        sound.append((clip.audio_AM[:rows] - calm_M).reshape(count, -1))
    motion_WK, sound_WK = np.concatenate(motion), np.concatenate(sound)
    order = rng.permutation(len(motion_WK))[:_TRAINING_WINDOWS]
    return motion_WK[order], sound_WK[order]


def _fitted(
    motion_WK: NDArray[np.float32], sound_WK: NDArray[np.float32]
) -> Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float64]]:
    """How well each mouth goes with each sound, by canonical correlations of principal axes."""
    motion, sound = _whitening(motion_WK), _whitening(sound_WK)
    cross = motion(motion_WK).T @ sound(sound_WK) / len(motion_WK)
    left, strength, right = np.linalg.svd(cross)
    left, right = left[:, :_SHARED_AXES], right[:_SHARED_AXES].T
    weight = strength[:_SHARED_AXES]

    def score(motion_VK: NDArray[np.float32], sound_VK: NDArray[np.float32]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (motion(motion_VK) @ left * weight) @ (
            sound(sound_VK) @ right
        ).T
        return found

    return score


def _whitening(
    x_WK: NDArray[np.float32],
) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """Onto the first principal axes, each of about unit spread."""
    mean_K = x_WK.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov((x_WK - mean_K).T.astype(np.float64)))
    values, axes = values[::-1][:_AXES], axes[:, ::-1][:, :_AXES]
    scale = 1 / np.sqrt(values + _RIDGE * values.mean())
    return lambda x: (x - mean_K) @ axes * scale
