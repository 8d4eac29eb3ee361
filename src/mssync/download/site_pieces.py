"""How is a section of a remote video copied into a file, with sound and picture in step?

Packets are copied as they are, from the last key frame before the section; what decodes them cuts
to the frame. All times are seconds as Fractions, because rounding would move frames.

Each format of a video is a track. Its clock is what its timestamps say, its zero is when its first
frame is shown: sections count from there, as frames do.
"""

import errno
import heapq
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from math import floor, inf
from pathlib import Path
from typing import IO, Any, Protocol

import av

from mssync.download.site_streams import (
    Ask,
    RemoteFile,
    Segment,
    SegmentStream,
    apple_timestamp,
)
from mssync.errors import ClipRejectedError

# None of these leads to other files or hosts.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,flv,ogg,avi,mpeg,asf,wav,flac,mp3,aac,ac3,eac3"
)
_BARE = frozenset({"aac", "mp3", "ac3", "eac3"})  # no timestamps of their own
_FEW = {"probesize": "1000000", "analyzeduration": "500000"}  # enough for the first timestamps
_STEPS_BACK_S = (Fraction(0), Fraction(5), Fraction(30), Fraction(10**9))  # to find a key frame
_PREROLL_S = Fraction(1, 2)  # of sound: decoders need a run-up
_INTERLEAVING_S = 10  # most that sound and picture lie apart in one file
_ONE_CLOCK_S = 1  # tracks that begin within it of each other have one clock
# Starts are decimal fractions, and miss the frame by rounding; Matroska counts in milliseconds.
_TICK_S = Fraction(1, 100_000)
_MATROSKA_TICK_S = Fraction(1, 1000)
_SLACK_S = 1.0  # lengths are rounded
_EXACT = {"mp4": {"movie_timescale": "90000"}}  # else it rounds beginnings to milliseconds
_MICRO = 1_000_000
_MPEG_HZ = 90_000


@dataclass(frozen=True)
class _Timed:
    """A packet, when it is decoded, and what turns its timestamps into that clock."""

    packet: Any
    time_s: Fraction
    shift_s: Fraction

    @property
    def shown_s(self) -> Fraction:
        pts = self.packet.pts if self.packet.pts is not None else self.packet.dts
        return Fraction(pts * self.packet.time_base + self.shift_s)


class Track(Protocol):
    """One format of a video."""

    def zero_s(self, section: "Section") -> Fraction:
        """When the first frame is shown, on the clock that holds in a section."""

    def has_picture(self) -> bool:
        """Whether there is one; known after `zero_s`."""

    def length_s(self) -> float | None:
        """How long it is, if it says so."""

    def demux(self, from_s: Fraction) -> Iterator[_Timed]:
        """Packets from about a time of the presentation on, rather from before than after it."""

    def close(self) -> None:
        """Read no more."""


class FileTrack:
    """A file that is sought in.

    Args:
        ask: Sends a request.
        url: Of the file.
        spool: See `RemoteFile`.
        limits: Options of libav that bound what is decoded.
    """

    def __init__(
        self, ask: Ask, url: str, *, spool: IO[bytes] | None, limits: Mapping[str, str]
    ) -> None:
        self._file = RemoteFile(ask, url, spool=spool)
        self._limits = limits
        self._container = _open(self._file, limits)
        self._fresh = True

    def zero_s(self, section: "Section") -> Fraction:
        """See `Track`."""
        return _first_s(self._container)

    def has_picture(self) -> bool:
        """See `Track`."""
        return _has_picture(self._container)

    def length_s(self) -> float | None:
        """See `Track`."""
        length = self._container.duration
        return None if length is None else float(length / _MICRO)

    def demux(self, from_s: Fraction) -> Iterator[_Timed]:
        """See `Track`."""
        if from_s > 0:
            with _as_reasons():
                self._container.seek(int((from_s + _first_s(self._container)) * _MICRO))
        elif not self._fresh:
            self.close()
            self._file.seek(0)
            self._container = _open(self._file, self._limits)
        self._fresh = False
        return _packets(self._container, Fraction(0))

    def close(self) -> None:
        """See `Track`."""
        self._container.close()


class SegmentTrack:
    """The segments of a playlist.

    Args:
        ask: Sends a request.
        segments: All of them.
        limits: Options of libav that bound what is decoded.

    Raises:
        ClipRejectedError: `site`, if there is none.
    """

    def __init__(self, ask: Ask, segments: Sequence[Segment], *, limits: Mapping[str, str]) -> None:
        if not segments:
            raise ClipRejectedError("site", "the playlist is empty")
        self._ask = ask
        self._all = segments
        self._part = segments  # those whose timestamps go on from one to the next
        self._limits = limits
        self._keys = dict[str, bytes]()
        self._zeros = dict[int, Fraction]()
        self._container: Any = None

    def zero_s(self, section: "Section") -> Fraction:
        """See `Track`."""
        # Playlists round; timestamps do not, as long as they go on.
        start_s = section.start_s
        number = ([each.part for each in self._all if each.start_s <= start_s] or [0])[-1]
        self._part = [segment for segment in self._all if segment.part == number]
        until_s = self._part[-1].start_s + self._part[-1].duration_s
        if self._part[-1] != self._all[-1] and (section.end_s or inf) > until_s + _SLACK_S:
            raise ClipRejectedError("site", "the stream is put together anew within the section")
        if number not in self._zeros:
            shift_s = self._begin(self._part[:1], _FEW)
            first_s = _first_s(self._container)
            self._zeros[number] = first_s + shift_s - Fraction(self._part[0].start_s)
        return self._zeros[number]

    def has_picture(self) -> bool:
        """See `Track`."""
        return _has_picture(self._container)

    def length_s(self) -> float | None:
        """See `Track`."""
        return self._all[-1].start_s + self._all[-1].duration_s

    def demux(self, from_s: Fraction) -> Iterator[_Timed]:
        """See `Track`."""
        early = sum(segment.start_s <= from_s for segment in self._part)
        shift_s = self._begin(self._part[max(0, early - 1) :], {})
        return _packets(self._container, shift_s)

    def close(self) -> None:
        """See `Track`."""
        if self._container:
            self._container.close()
        self._container = None

    def _begin(self, segments: Sequence[Segment], options: Mapping[str, str]) -> Fraction:
        """Open a stream of segments: what turns its timestamps into the clock of all."""
        self.close()
        stream = SegmentStream(self._ask, segments, self._keys)
        self._container = _open(stream, {**self._limits, **options})
        if self._container.format.name not in _BARE:
            return Fraction(0)
        stamp = apple_timestamp(stream.head)
        begin_s = Fraction(segments[0].start_s) if stamp is None else Fraction(stamp, _MPEG_HZ)
        return begin_s - Fraction(self._container.start_time or 0, _MICRO)


@dataclass(frozen=True)
class Section:
    """A part of a video.

    Attributes:
        start_s: Where it begins.
        end_s: Where it ends; None: with the video.
        most_s: Longest that is copied.
    """

    start_s: float
    end_s: float | None
    most_s: float

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the video."""
        return self.start_s == 0 and self.end_s is None

    def check(self, length_s: float) -> None:
        """See whether a video of some length has this part, and it is not too long.

        Raises:
            ClipRejectedError: `empty_cut` or `too_long`.
        """
        if self.start_s >= length_s:
            raise ClipRejectedError(
                "empty_cut",
                f"the cut starts at {self.start_s:g} s, the source ends at {length_s:g} s",
            )
        wanted_s = min(self.end_s or inf, length_s) - self.start_s
        if wanted_s > self.most_s:
            raise self.too_long(f"the clip has {wanted_s:.1f} s")

    def too_long(self, found: str) -> ClipRejectedError:
        """The error that says so."""
        return ClipRejectedError(
            "too_long",
            f"{found}, at most {self.most_s:g} s are kept (download_videos.max_duration_s): "
            "give start_s and end_s in the list",
        )


def copy(tracks: Sequence[Track], target: Path, section: Section) -> float:
    """Copy the packets of a section into a file: MP4 where it can hold them, else Matroska.

    Args:
        tracks: Formats that belong together.
        target: File to write.
        section: What to copy.

    Returns:
        Where the section begins, in seconds after the first timestamp of the file.

    Raises:
        ClipRejectedError: If there is no picture, or the section is not in it, or too long.
    """
    lengths = [length for track in tracks if (length := track.length_s())]
    if lengths:
        section.check(max(lengths))
    zeros = [track.zero_s(section) for track in tracks]
    shown = [zero_s for track, zero_s in zip(tracks, zeros, strict=True) if track.has_picture()]
    if shown and max(zeros) - min(zeros) < _ONE_CLOCK_S:
        zeros = [shown[0]] * len(tracks)
    templates = dict[str, Any]()
    runs = list[Iterator[_Timed]]()
    for track, zero_s in zip(tracks, zeros, strict=True):
        run = _run(track, zero_s, section)
        first = next(run, None)
        if first is None:
            continue
        streams = _streams(first.packet.stream.container)
        new = {stream.type: stream for stream in streams if stream.type not in templates}
        templates |= new
        runs.append(_only(new, chain([first], run)))
    packets = heapq.merge(*runs, key=lambda timed: timed.time_s)
    begin_s = _write(packets, templates, target, section)
    with _as_reasons(), av.open(str(target)) as piece:
        lead_s = Fraction(section.start_s) - begin_s - Fraction(piece.start_time or 0, _MICRO)
        tick_s = _MATROSKA_TICK_S if "matroska" in piece.format.name else _TICK_S
    return max(0.0, round(float(lead_s - tick_s), 6))


def _run(track: Track, zero_s: Fraction, section: Section) -> Iterator[_Timed]:
    """The packets of a section, on a clock that begins with the presentation."""
    start_s = Fraction(section.start_s)
    end_s = Fraction(section.end_s or section.start_s + section.most_s + _SLACK_S)
    done = set[int]()
    for timed in _run_up(track, start_s, zero_s):
        time_s = timed.time_s - zero_s
        if time_s < end_s:
            yield _Timed(timed.packet, time_s, timed.shift_s - zero_s)
            continue
        if section.end_s is None:
            raise section.too_long("the clip has more")
        done.add(timed.packet.stream.index)
        all_done = len(done) == len(_streams(timed.packet.stream.container))
        if all_done or time_s > end_s + _INTERLEAVING_S:
            return


def _run_up(track: Track, start_s: Fraction, zero_s: Fraction) -> Iterator[_Timed]:
    """Packets from the last key frame at or before a time of the presentation."""
    for back_s in _STEPS_BACK_S:
        from_s = max(Fraction(0), start_s - back_s - _PREROLL_S) if start_s else start_s
        packets = track.demux(from_s)
        sound = list[_Timed]()
        for timed in packets:
            if timed.packet.stream.type != "video" and _has_picture(timed.packet.stream.container):
                sound.append(timed)
            elif timed.packet.is_keyframe:
                if timed.shown_s - zero_s <= start_s + _TICK_S or not from_s:
                    return chain(sound, [timed], packets)
                break
        if not from_s:
            break
    return iter(())


def _only(kinds: Container[str], packets: Iterator[_Timed]) -> Iterator[_Timed]:
    return (timed for timed in packets if timed.packet.stream.type in kinds)


def _packets(container: Any, shift_s: Fraction) -> Iterator[_Timed]:  # noqa: ANN401
    packets = container.demux(_streams(container))
    ends = dict[int, int]()  # of sound, by stream
    while True:
        with _as_reasons():
            packet = next(packets, None)
        if packet is None:
            return
        if not packet.size:
            continue
        index = packet.stream.index
        if packet.dts is None and index in ends:
            # the first frames of a run of sound, before libav knows how long a frame is
            packet.pts = packet.dts = ends[index]
        time = packet.dts if packet.dts is not None else packet.pts
        if time is None:
            continue
        if packet.stream.type == "audio":
            ends[index] = time + (packet.duration or _frame_ticks(packet))
        yield _Timed(packet, time * packet.time_base + shift_s, shift_s)


def _frame_ticks(packet: Any) -> int:  # noqa: ANN401
    sound = packet.stream.codec_context
    length_s = Fraction(sound.frame_size, sound.sample_rate or 1)
    ticks: int = round(length_s / packet.time_base)
    return ticks


def _streams(container: Any) -> list[Any]:  # noqa: ANN401 - of PyAV, which has no types
    """The streams that are copied: the first picture that moves, the first sound."""
    cover = av.stream.Disposition.attached_pic
    moving = [stream for stream in container.streams.video if not stream.disposition & cover]
    return [*moving[:1], *container.streams.audio[:1]]


def _first_s(container: Any) -> Fraction:  # noqa: ANN401
    """When the first frame is shown, or heard where none is shown."""
    for stream in _streams(container):
        if stream.start_time is not None:
            return Fraction(stream.start_time * stream.time_base)
    return Fraction(container.start_time or 0, _MICRO)


def _has_picture(container: Any) -> bool:  # noqa: ANN401
    return any(stream.type == "video" for stream in _streams(container))


def _write(
    packets: Iterator[_Timed], templates: Mapping[str, Any], target: Path, section: Section
) -> Fraction:
    """Write packets to a file: the time of the presentation that is 0 in it."""
    first = next(packets, None)
    if first is None:
        raise ClipRejectedError("empty_cut", f"nothing is there at {section.start_s:g} s")
    if "video" not in templates:
        raise ClipRejectedError("no_video", "the format has no picture (site_format)")
    # Whole seconds: no timestamp is rounded when they are taken off.
    begin_s = Fraction(0 if section.is_whole else floor(first.time_s))
    last = dict[str, int]()
    with _as_reasons(), _output(templates, target) as output:
        streams = {
            kind: output.add_stream_from_template(template) for kind, template in templates.items()
        }
        for timed in chain([first], packets):
            kind, packet = timed.packet.stream.type, timed.packet
            delta = round((timed.shift_s - begin_s) / packet.time_base)
            dts = (packet.pts if packet.dts is None else packet.dts) + delta
            packet.dts = max(dts, last.get(kind, dts - 1) + 1)
            if packet.pts is not None:
                packet.pts = max(packet.pts + delta, packet.dts)
            last[kind] = packet.dts
            packet.stream = streams[kind]
            output.mux_one(packet)
    return begin_s


def _output(templates: Mapping[str, Any], target: Path) -> Any:  # noqa: ANN401
    names = {template.codec_context.name for template in templates.values()}
    for kind in ("mp4", "matroska"):
        output = av.open(str(target), "w", format=kind, container_options=_EXACT.get(kind, {}))
        if names <= output.supported_codecs:
            return output
        output.close()
    raise ClipRejectedError("site", f"no container for {', '.join(sorted(names))} (site_format)")


def _open(file: RemoteFile | SegmentStream, options: Mapping[str, str]) -> Any:  # noqa: ANN401
    with _as_reasons("not_a_video"):
        return av.open(
            file,
            metadata_errors="ignore",
            options={**options, "format_whitelist": _FORMATS, "protocol_whitelist": "none"},
        )


@contextmanager
def _as_reasons(reason: str = "corrupt") -> Iterator[None]:
    """Turn libav's errors into ours; those of our own requests pass as they are."""
    try:
        yield
    except av.FFmpegError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ClipRejectedError("disk", "the disk of the media store is full") from error
        if isinstance(error, MemoryError):
            raise
        words = error.strerror or type(error).__name__
        raise ClipRejectedError(reason, f"not readable media: {words}") from error
