"""Is a clip kept, and if not, why: thresholds on scores. Pure.

Axes: T ticks of the 25 Hz clock.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mssync import records
from mssync.ledger import Decision
from mssync.params import BuildDataset
from mssync.selection.envelope import coupling
from mssync.selection.offset import Offset
from mssync.selection.stretch import Stretch, longest_stretch, shot_starts
from mssync.timing import FRAME_RATE_HZ, ROW_MS, ROWS_PER_FRAME, frame_time_s, nearest_rows

SCORES = tuple(sorted({*records.LANDMARK_SCORES, *records.AUDIO_SCORES, *records.DATASET_SCORES}))


@dataclass(frozen=True)
class Face:
    """What a decision needs of a clip's landmarks: columns of `records.LANDMARKS`."""

    interpolated_T: NDArray[np.bool_]
    shot_T: NDArray[np.int16]
    move_T: NDArray[np.float32]
    mouth_T: NDArray[np.float32]


@dataclass(frozen=True)
class Sound:
    """What a decision needs of a clip's sound.

    Attributes:
        envelope_T: Amplitude around each tick.
        start_s: When it begins, relative to the first tick.
        end_s: When it ends.
    """

    envelope_T: NDArray[np.float32]
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Usable:
    """What can be used of a clip.

    Attributes:
        stretch: Its longest usable stretch.
        longest: Frames of the longest stretch within each limit and all limits before it, by the
            reason of a clip that has none long enough.
        correlation: Of mouth opening and loudness over the stretch; NaN where not measured.
        lag_s: At which it is largest; positive where the sound is late.
    """

    stretch: Stretch
    longest: Mapping[str, int]
    correlation: float
    lag_s: float


@dataclass(frozen=True)
class Known:
    """What is known of a clip in which a face was followed.

    Attributes:
        frames: Its length.
        usable: What can be used of it.
        offset: Of its sound.
        listed_ms: The same as the list gives it; NaN: it does not.
    """

    frames: int
    usable: Usable
    offset: Offset
    listed_ms: float = math.nan

    def aligned(self, params: BuildDataset) -> "Aligned":
        """What is used of it, and which sound goes with it."""
        return align(self.usable.stretch, self.frames, self._late_ms(params))

    def _late_ms(self, params: BuildDataset) -> float:
        """By how much the sound is taken later than it lies: the list is believed first."""
        if not math.isnan(self.listed_ms):
            return self.listed_ms
        believed = self.offset.confidence >= params.min_av_confidence
        return self.offset.offset_ms if params.correct_av_offset and believed else 0.0

    def scores(self, params: BuildDataset) -> dict[str, float]:
        """The values of `records.DATASET_SCORES`."""
        aligned = self.aligned(params)
        return {
            "usable_frames": aligned.stretch.frames,
            "usable_start_frames": aligned.stretch.first_frame,
            "mouth_loudness_correlation": self.usable.correlation,
            "mouth_loudness_lag_s": self.usable.lag_s,
            "av_offset_ms": self.offset.offset_ms,
            "av_confidence": self.offset.confidence,
            "av_drift_ms_per_s": self.offset.drift_ms_per_s,
            "av_listed_ms": self.listed_ms,
            "av_shift_rows": aligned.shift_rows,
        }


def measure(face: Face, sound: Sound | None, params: BuildDataset) -> Usable:
    """Find the usable stretch of a clip, and how mouth and sound agree in it.

    Args:
        face: Of the landmark part.
        sound: Of the audio part; None where there is none.
        params: `max_jump`, `max_gap_frames` and `max_length_mismatch_s` count.
    """
    stretches = {
        limit.reason: longest_stretch(
            limit.found_T, limit.breaks_T, max_gap_frames=limit.gap_frames
        )
        for limit in _limits(face, sound, params)
    }
    stretch = list(stretches.values())[-1]
    correlation = lag_s = math.nan
    if sound is not None:
        counted_T = np.zeros(len(face.mouth_T), bool)
        counted_T[stretch.ticks()] = ~face.interpolated_T[stretch.ticks()]
        correlation, lag_s = coupling(face.mouth_T, sound.envelope_T, counted_T)
    longest = {reason: found.frames for reason, found in stretches.items()}
    return Usable(stretch, longest, correlation, lag_s)


class _Limit(NamedTuple):
    """What a stretch may not contain.

    Attributes:
        reason: Code of a clip whose stretch it makes too short.
        found_T: Ticks it may begin and end on.
        breaks_T: Ticks that cannot be in one stretch with the tick before.
        gap_frames: Most ticks in a row that it may bridge.
    """

    reason: str
    found_T: NDArray[np.bool_]
    breaks_T: NDArray[np.bool_]
    gap_frames: int


def _limits(face: Face, sound: Sound | None, params: BuildDataset) -> Iterator[_Limit]:
    """Limits of a stretch, each with all before it."""
    frames, gap = len(face.interpolated_T), params.max_gap_frames
    every_T = np.ones(frames, bool)
    cuts_T = shot_starts(face.shot_T)
    jumps_T = cuts_T | (face.move_T > params.max_jump)
    found_T = ~face.interpolated_T
    yield _Limit("shot_changes", every_T, cuts_T, 0)
    yield _Limit("face_jumps", every_T, jumps_T, 0)
    yield _Limit("face_lost", found_T, jumps_T, gap)
    if sound is not None:
        heard_T = _heard(sound, frames, params.max_length_mismatch_s)
        yield _Limit("length_mismatch", found_T & heard_T, jumps_T, gap)


def _too_short(known: Known, params: BuildDataset) -> Iterator[tuple[str, str]]:
    """The first limit that leaves too little: reason and sentence."""
    names = {
        "shot_changes": "shot",
        "face_jumps": f"stretch without a move of the face beyond {params.max_jump:g}",
        "face_lost": (
            f"stretch in which the face is never lost for more than {params.max_gap_frames} frames"
        ),
        "length_mismatch": "stretch with face and sound",
    }
    longest = dict(known.usable.longest)
    longest["length_mismatch"] = known.aligned(params).stretch.frames
    for reason, frames in longest.items():
        if frames < params.min_frames:
            yield (
                reason,
                f"the longest {names[reason]} has {frames} frames, at least {params.min_frames} "
                "are kept (build_dataset.min_frames)",
            )
            return


def _heard(sound: Sound, frames: int, tolerance_s: float) -> NDArray[np.bool_]:
    """Ticks that the soundtrack covers, but for at most `tolerance_s` at either end."""
    start = end_off = 0
    if sound.start_s > tolerance_s:
        start = math.ceil(sound.start_s * FRAME_RATE_HZ)
    if frame_time_s(frames) - sound.end_s > tolerance_s:
        end_off = frames - math.floor(sound.end_s * FRAME_RATE_HZ)
    ticks = np.arange(frames)
    heard_T: NDArray[np.bool_] = (ticks >= start) & (
        ticks < min(frames - end_off, len(sound.envelope_T))
    )
    return heard_T


@dataclass(frozen=True)
class _Rule:
    """A bound on a score.

    Attributes:
        reason: Code of a clip that misses it.
        score: What is compared.
        bound: Field of `BuildDataset` that it is compared with.
        side: Which side of the bound is kept.
    """

    reason: str
    score: str
    bound: str
    side: Literal["at least", "at most"]

    def misses(self, scores: Mapping[str, float], params: BuildDataset) -> str:
        """What is wrong, as a sentence; empty where nothing is, or nothing could be measured."""
        value, bound = scores[self.score], getattr(params, self.bound)
        if self.score in _SIGNED:
            # what is not believed rejects nothing, and what is corrected does no harm
            if not scores["av_confidence"] >= params.min_av_confidence:
                return ""
            if self.score == "av_offset_ms":
                value -= scores["av_shift_rows"] * ROW_MS
        size = abs(value) if self.score in _SIGNED else value
        if not (size < bound if self.side == "at least" else size > bound):
            return ""
        return (
            f"{self.score} is {value:.4g}, {self.side} {bound:g} is kept "
            f"(build_dataset.{self.bound})"
        )


_SIGNED = frozenset({"av_offset_ms", "av_drift_ms_per_s"})
_FIRST = (
    _Rule("too_short", "frames", "min_frames", "at least"),
    # Before the stretch: ticks between frames so far apart count as lost.
    _Rule("too_few_frames", "source_fps_hz", "min_source_fps_hz", "at least"),
)
# The gravest first: a clip is rejected for one reason.
_RULES = (
    _Rule("face_lost", "tracked_ratio", "min_tracked_ratio", "at least"),
    _Rule("face_too_small", "interocular_px", "min_interocular_px", "at least"),
    _Rule("several_faces", "faces_ratio", "max_faces_ratio", "at most"),
    _Rule("low_confidence", "mean_confidence", "min_confidence", "at least"),
    _Rule("turned_away", "yaw_p95_deg", "max_yaw_deg", "at most"),
    _Rule("blurred", "blur", "min_blur", "at least"),
    _Rule("jitter", "jitter", "max_jitter", "at most"),
    _Rule("mouth_hidden", "mouth_texture", "min_mouth_texture", "at least"),
    _Rule("frozen", "frozen_ratio", "max_frozen_ratio", "at most"),
    _Rule("mouth_still", "mouth_energy", "min_mouth_energy", "at least"),
    _Rule("silent", "loudness_db", "min_loudness_db", "at least"),
    _Rule("no_speech", "speech_ratio", "min_speech_ratio", "at least"),
    _Rule("noisy", "snr_db", "min_snr_db", "at least"),
    _Rule("clipped", "clipped_ratio", "max_clipped_ratio", "at most"),
    _Rule("mute_mouth", "mouth_loudness_correlation", "min_mouth_loudness_correlation", "at least"),
    _Rule("out_of_sync", "av_offset_ms", "max_av_offset_ms", "at most"),
    _Rule("drifting", "av_drift_ms_per_s", "max_av_drift_ms_per_s", "at most"),
)


@dataclass(frozen=True)
class Aligned:
    """What is used of a clip's landmarks, and which sound goes with it.

    Attributes:
        stretch: Ticks of the landmarks.
        shift_rows: Tick k goes with audio row 4 k + this.
    """

    stretch: Stretch
    shift_rows: int


def align(stretch: Stretch, frames: int, late_ms: float) -> Aligned:
    """Make up for sound that is late; ticks whose sound would lie outside are left out.

    Args:
        stretch: What can be used.
        frames: Length of the clip.
        late_ms: How late it is; negative: early.
    """
    shift = nearest_rows(late_ms)
    first = max(stretch.first_frame, math.ceil(-shift / ROWS_PER_FRAME))
    end = min(stretch.first_frame + stretch.frames, frames - math.ceil(shift / ROWS_PER_FRAME))
    return Aligned(Stretch(first, max(0, end - first)), shift)


def decide(
    clip_id: str, before: Sequence[Decision], known: Known | None, params: BuildDataset
) -> Decision:
    """Keep a clip, or say why not, with every score there is.

    Args:
        clip_id: The clip.
        before: What the extraction stages decided; the first rejection stands.
        known: What was measured of it; None where no face was followed.
        params: Every threshold.
    """
    scores = dict.fromkeys(SCORES, math.nan)
    measured = [decision.scores for decision in reversed(before)]
    for found in [*measured, known.scores(params) if known else {}]:
        # NaN is not equal to itself
        scores |= {name: value for name, value in found.items() if value == value}
    rejected = next((decision for decision in before if not decision.kept), None)
    if rejected:
        return Decision(clip_id, rejected.reason, rejected.detail, scores)
    reason, detail = next(_failures(scores, known, params), ("", ""))
    return Decision(clip_id, reason, detail, scores)


def _failures(
    scores: Mapping[str, float], known: Known | None, params: BuildDataset
) -> Iterator[tuple[str, str]]:
    """What is wrong with a clip: reason and sentence, the gravest first."""
    for rule in _FIRST:
        if told := rule.misses(scores, params):
            yield rule.reason, told
    if known:
        yield from _too_short(known, params)
    for rule in _RULES:
        if told := rule.misses(scores, params):
            yield rule.reason, told
