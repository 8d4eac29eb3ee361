"""Which face is followed through a clip, and where it is on each frame that was looked at.

The policy: within a shot, the widest face, its width summed over the frames that show it. Up to
`max_faces` are followed at a time, because which one will be the widest is known only afterwards.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mssync.landmarks import boxes, motion, quality, shots
from mssync.landmarks.detector import Backend, Box, Face, Landmarker, Picture
from mssync.landmarks.quality import Detail
from mssync.params import ExtractLandmarks

_WINDOW_FRAMES = 50  # looked at together: boxes are known on both sides of most pictures
_LEAST_OVERLAP = 0.2  # with its last box, for a face to be the same one
_LOST_WIDTHS = 1.0  # a face that was lost may come back so far away
_LOST_GROWTH = 1.6
_FORGOTTEN_FRAMES = 50


class Frame(Protocol):
    """A decoded frame, as `mssync.media.decode.frames` yields it."""

    @property
    def time_s(self) -> float:
        """Since the clock's start."""

    @property
    def picture_HWC(self) -> Picture:  # noqa: N802 - a shape
        """RGB, upright, of square pixels."""

    @property
    def scale(self) -> float:
        """Pixels at full size a pixel of the picture."""

    @property
    def interlaced(self) -> bool:
        """Whether it was."""


@dataclass(frozen=True)
class Following:
    """What was seen of the followed face, frame by frame; N frames were looked at.

    Attributes:
        times_s: Seconds since the clock's start (N,).
        shot_N: Number of the shot, from 0 (N,).
        faces: Face on each frame, its points in pixels at full size; None where it was lost.
        details: Sharpness of the followed face, on the frames where faces were searched.
        searched: Number of those frames that show a face.
        rivalled: Of these, how many show another face at least half as wide as the widest.
        most_faces: Most faces that one of them shows.
        rival_mouth_energy: Mouth energy of the next widest face over that of the followed one, in
            the longest shot; 0 without another.
        repeated: Frames that repeat the one before.
        interlaced: Frames that were interlaced.
    """

    times_s: NDArray[np.float64]
    shot_N: NDArray[np.int16]
    faces: Sequence[Face | None]
    details: Sequence[Detail]
    searched: int
    rivalled: int
    most_faces: int
    rival_mouth_energy: float
    repeated: int
    interlaced: int


def follow(frames: Iterable[Frame], backend: Backend, params: ExtractLandmarks) -> Following:
    """Follow the faces of one clip and choose one in each shot.

    Args:
        frames: In order of time.
        backend: What finds faces and their points.
        params: The stage's section.
    """
    follower = _Follower(backend, params)
    for window in _windows(frames):
        follower.take(window)
    return follower.finish()


@dataclass(frozen=True)
class _Seen:
    """A frame with its thumbnail."""

    frame: Frame
    thumbnail: Picture


def _windows(frames: Iterable[Frame]) -> Iterator[tuple[list[_Seen], list[_Seen]]]:
    """Frames to work on, and those just after them."""
    waiting = list[_Seen]()
    for frame in frames:
        waiting.append(_Seen(frame, shots.thumbnail(frame.picture_HWC)))
        if len(waiting) == _WINDOW_FRAMES + shots.LOOK_AHEAD:
            yield waiting[:_WINDOW_FRAMES], waiting[_WINDOW_FRAMES:]
            del waiting[:_WINDOW_FRAMES]
    if waiting:
        yield waiting, []


@dataclass
class _Subject:
    """One of the faces that are followed in a shot."""

    landmarker: Landmarker | None  # None: lost for so long that it is not looked for any more
    box: Box
    found: dict[int, Face] = field(default_factory=dict)  # by number of the frame
    details: list[Detail] = field(default_factory=list)
    width: float = 0.0  # summed over the frames
    missing_frames: int = 0

    def might_be(self, box: Box) -> bool:
        """Whether a box that was found may show this face."""
        if boxes.overlap(self.box, box) >= _LEAST_OVERLAP:
            return True
        growth = box.width / max(1.0, self.box.width)
        return (
            self.missing_frames > 0
            and 1 / _LOST_GROWTH < growth < _LOST_GROWTH
            and boxes.distance(self.box, box) < _LOST_WIDTHS * box.width
        )

    def mouth_energy(self) -> float:
        """Standard deviation of its mouth opening, in inter-ocular distances."""
        points_NPD = np.stack([face.points_PD for face in self.found.values()])
        nowhere_N = np.zeros(len(points_NPD), np.bool_)
        opening_N = motion.mouth_opening(points_NPD, np.zeros(len(points_NPD), np.int16))
        return motion.mouth_energy(opening_N, nowhere_N)


class _Follower:
    """The state between windows."""

    def __init__(self, backend: Backend, params: ExtractLandmarks) -> None:
        self._backend = backend
        self._params = params
        self._shot_finder = shots.ShotFinder(params.shot_threshold)
        self._last_thumbnail: Picture | None = None
        self._times_s, self._shots = list[float](), list[int]()
        self._shot = -1
        self._subjects = list[_Subject]()  # of the shot under way, chosen from at its end
        self._faces = dict[int, Face]()
        self._details = list[Detail]()
        self._longest_shot_frames, self._rival_mouth_energy = 0, 0.0
        self._searched = self._rivalled = self._most_faces = 0
        self._repeated = self._interlaced = 0

    def take(self, window: tuple[list[_Seen], list[_Seen]]) -> None:
        """Work on the next frames."""
        seen, after = window
        thumbnails = [each.thumbnail for each in (*seen, *after)]
        starts = [
            place
            for place in range(len(seen))
            if self._shot_finder.begins(
                thumbnails[place], thumbnails[place + 1 : place + 1 + shots.LOOK_AHEAD]
            )
        ]
        self._count(seen)
        borders = sorted({0, *starts, len(seen)})
        segments = list(pairwise(borders))
        searched = [self._search_places(*segment) for segment in segments]
        pictures = [each.frame.picture_HWC for each in seen]
        answers = iter(
            self._backend.detect([pictures[place] for places in searched for place in places])
        )
        for (start, end), places in zip(segments, searched, strict=True):
            if start in starts:
                self._end_shot()
            found = {place - start: next(answers) for place in places}
            self._follow(seen[start:end], found)

    def finish(self) -> Following:
        """End the last shot: the result."""
        self._end_shot()
        return Following(
            times_s=np.array(self._times_s),
            shot_N=np.array(self._shots, np.int16),
            faces=[self._faces.get(number) for number in range(len(self._times_s))],
            details=self._details,
            searched=self._searched,
            rivalled=self._rivalled,
            most_faces=self._most_faces,
            rival_mouth_energy=self._rival_mouth_energy,
            repeated=self._repeated,
            interlaced=self._interlaced,
        )

    def _count(self, seen: Sequence[_Seen]) -> None:
        for each in seen:
            if self._last_thumbnail is not None:
                self._repeated += shots.repeats(self._last_thumbnail, each.thumbnail)
            self._interlaced += each.frame.interlaced
            self._last_thumbnail = each.thumbnail

    def _search_places(self, start: int, end: int) -> list[int]:
        """Frames of a segment on which faces are searched: now and then, and the last one."""
        return sorted({*range(start, end, self._params.detect_every_frames), end - 1})

    def _follow(self, seen: Sequence[_Seen], found: Mapping[int, list[Box]]) -> None:
        """Follow the faces through frames of one shot, given what was found on some of them."""
        first = len(self._times_s)
        self._times_s += [each.frame.time_s for each in seen]
        self._shots += [self._shot] * len(seen)
        for faces in filter(None, found.values()):
            self._searched += 1
            self._rivalled += boxes.count_rivals(faces) > 1
            self._most_faces = max(self._most_faces, len(faces))
        own = self._match(found)
        for place, subject in enumerate(self._subjects):
            if subject.landmarker:
                _advance(subject, subject.landmarker, own[place], first, seen, found)
            if subject.missing_frames >= _FORGOTTEN_FRAMES:
                subject.landmarker = None

    def _match(self, found: Mapping[int, list[Box]]) -> list[dict[int, Box]]:
        """The boxes of each subject, by place; who is not known becomes a subject."""
        own: list[dict[int, Box]] = [{} for _ in self._subjects]
        for place in sorted(found):
            free = list(found[place])
            for number, box in _pairs(self._subjects, free):
                subject = self._subjects[number]
                own[number][place] = subject.box = box
                subject.landmarker = subject.landmarker or self._backend.landmarker()
                free.remove(box)
            active = sum(subject.landmarker is not None for subject in self._subjects)
            widest = max((box.width for box in found[place]), default=0.0)
            for box in free:
                if active < self._params.max_faces and box.width >= widest / 2:
                    active += 1
                    self._subjects.append(_Subject(self._backend.landmarker(), box))
                    own.append({place: box})
        return own

    def _end_shot(self) -> None:
        """Choose the face of the shot that ends, and forget the others."""
        ranked = sorted(self._subjects, key=lambda subject: -subject.width)
        if ranked and ranked[0].found:
            chosen = ranked[0]
            self._faces |= chosen.found
            self._details += chosen.details
            if len(chosen.found) > self._longest_shot_frames:
                self._longest_shot_frames = len(chosen.found)
                rival = next((other for other in ranked[1:] if other.found), None)
                energy = rival.mouth_energy() if rival else 0.0
                self._rival_mouth_energy = energy / max(1e-6, chosen.mouth_energy())
        self._subjects = []
        self._shot += 1


def _pairs(subjects: Sequence[_Subject], found: Sequence[Box]) -> list[tuple[int, Box]]:
    """Which subject each box shows: those that overlap most, or lie nearest, first."""
    candidates = sorted(
        (-boxes.overlap(subjects[number].box, box), boxes.distance(subjects[number].box, box),
         number, place)
        for number in range(len(subjects))
        for place, box in enumerate(found)
        if subjects[number].might_be(box)
    )  # fmt: skip
    pairs = dict[int, int]()
    for *_, number, place in candidates:
        if number not in pairs and place not in pairs.values():
            pairs[number] = place
    return [(number, found[place]) for number, place in pairs.items()]


def _advance(
    subject: _Subject,
    landmarker: Landmarker,
    own: Mapping[int, Box],
    first: int,
    seen: Sequence[_Seen],
    found: Mapping[int, list[Box]],
) -> None:
    """Find the points of one face on the next frames."""
    start = 0 if subject.found or subject.missing_frames else min(own)
    places = range(start, len(seen))
    where = [_box_at(place, own, subject.box, found) for place in places]
    others = [_others_at(place, own, found) for place in places]
    pictures = [seen[place].frame.picture_HWC for place in places]
    for place, face in zip(places, landmarker.points(pictures, where, others), strict=True):
        if face is None:
            subject.missing_frames += 1
            continue
        scale = seen[place].frame.scale
        subject.box, subject.missing_frames = boxes.around(face.points_PD, face.confidence), 0
        subject.width += subject.box.width * scale
        subject.found[first + place] = Face(face.points_PD * np.float32(scale), face.confidence)
        if place in found:
            subject.details.append(quality.detail(pictures[place - start], face.points_PD))


def _box_at(place: int, own: Mapping[int, Box], last: Box, found: Mapping[int, list[Box]]) -> Box:
    """Between the boxes around a place; the nearest one where there are not two.

    Its score is that of the searches around the place, 0 for one that did not find this face.
    """
    searched_before = max(known for known in found if known <= place)
    searched_after = min((known for known in found if known >= place), default=searched_before)
    scores = [
        own[known].score if known in own else 0.0 for known in (searched_before, searched_after)
    ]
    way = (place - searched_before) / max(1, searched_after - searched_before)
    score = (1 - way) * scores[0] + way * scores[1]
    return replace(_place_at(place, own, last), score=score)


def _place_at(place: int, own: Mapping[int, Box], last: Box) -> Box:
    before = max((known for known in own if known <= place), default=None)
    after = min((known for known in own if known >= place), default=None)
    if before is None or after is None:
        known = before if after is None else after
        return last if known is None else own[known]
    if before == after:
        return own[place]
    return boxes.between(own[before], own[after], (place - before) / (after - before))


def _others_at(place: int, own: Mapping[int, Box], found: Mapping[int, list[Box]]) -> Sequence[Box]:
    searched = max(known for known in found if known <= place)
    return [box for box in found[searched] if box is not own.get(searched)]
