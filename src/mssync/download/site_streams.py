"""How does a video on a server look like a file to libav, which opens no connection itself?

A file is read in blocks, where libav wants to read. The segments of a playlist are read one behind
the other, from the one that is wanted. So no more is fetched than is needed, a crafted playlist or
file leads nowhere that our own requests would not go, and no URL or cookie is on a command line.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any, Protocol
from urllib.parse import urljoin, urlsplit, urlunsplit

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from mssync.errors import ClipRejectedError

CHUNK_BYTES = 64 << 10
_BLOCK_BYTES = 128 << 10
_MOST_BLOCKS = 32  # of one request
_KEPT_BLOCKS = 128
_MOST_IN_MEMORY_BYTES = 256 << 20  # of a segment that has to be decrypted
_MOST_PLAYLIST_BYTES = 16 << 20
_KEY_BYTES = 16
_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)')
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class Answer(Protocol):
    """What a server sent."""

    status: int
    url: str

    @property
    def headers(self) -> Mapping[str, str]:
        """Of the answer."""

    def read(self, size: int) -> bytes:
        """The next bytes, counted; empty at the end."""

    def close(self) -> None:
        """Ask for no more."""


Ask = Callable[[str, Mapping[str, str]], Answer]


@dataclass(frozen=True)
class Key:
    """How a segment is encrypted: AES-128 in CBC mode."""

    url: str
    iv: bytes


@dataclass(frozen=True)
class Resource:
    """Bytes `first` to `last` of a URL, or all of them."""

    url: str
    first: int | None = None
    last: int | None = None
    key: Key | None = None


@dataclass(frozen=True)
class Segment:
    """One piece of a stream.

    Attributes:
        media: Where it is.
        start_s: When it begins, as the playlist counts.
        duration_s: How long it is, by the same.
        part: Counts the discontinuities before it: timestamps within one part go on.
        init: What decoders need before it.
    """

    media: Resource
    start_s: float
    duration_s: float
    part: int = 0
    init: Resource | None = None

    def with_query(self, query: str) -> "Segment":
        """The same with more in the query of its address."""
        parts = urlsplit(self.media.url)
        more = urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, query)))))
        return replace(self, media=replace(self.media, url=more))


class RemoteFile:
    """A file on a server, read in blocks; those that were read lately are kept.

    Args:
        ask: Sends a request.
        url: Of the file.
        spool: Takes the file if its server sends it only whole; None: that is refused.
    """

    name = "media"

    def __init__(self, ask: Ask, url: str, *, spool: IO[bytes] | None) -> None:
        self._ask = ask
        self._url = url
        self._spool = spool
        self._spooled = False
        self._position = 0
        self._size: int | None = None
        self._blocks = OrderedDict[int, bytes]()
        self._next = 0  # the block after those of the last request
        self._run = 0

    def read(self, size: int) -> bytes:
        """The next bytes; empty at the end."""
        if not self._spooled:
            number, offset = divmod(self._position, _BLOCK_BYTES)
            data = self._block(number)[offset : offset + size]
        if self._spooled and self._spool:
            self._spool.seek(self._position)
            data = self._spool.read(size)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place in the file."""
        if whence == 2 and self._size is None:
            self._block(0)
        self._position = offset + (0, self._position, self._size or 0)[whence]
        return self._position

    def tell(self) -> int:
        """The place in the file."""
        return self._position

    def _block(self, number: int) -> bytes:
        end = self._size is not None and number * _BLOCK_BYTES >= self._size
        if number not in self._blocks and not end:
            self._fetch(number)
        if number in self._blocks:
            self._blocks.move_to_end(number)
        return self._blocks.get(number, b"")

    def _fetch(self, number: int) -> None:
        """Ask for a block, and for more behind it the longer the file is read on."""
        self._run = min(self._run * 2, _MOST_BLOCKS) if number == self._next and self._run else 1
        self._next = number + self._run
        first, end = number * _BLOCK_BYTES, self._next * _BLOCK_BYTES
        answer = self._ask(self._url, {"Range": f"bytes={first}-{end - 1}"})
        try:
            if answer.status != 206:
                self._take_whole(answer)
                return
            self._size = self._checked_size(answer, first)
            for block in range(number, self._next):
                wanted = min(_BLOCK_BYTES, self._size - block * _BLOCK_BYTES)
                if wanted > 0:
                    self._blocks[block] = _exactly(answer, wanted)
        finally:
            answer.close()
        while len(self._blocks) > _KEPT_BLOCKS:
            self._blocks.popitem(last=False)

    def _checked_size(self, answer: Answer, first: int) -> int:
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        if not found or int(found[1]) != first:
            raise ClipRejectedError("server_error", "another part came than was asked for")
        size = int(found[2])
        if self._size not in (None, size):
            raise ClipRejectedError("connection", "the file changed while it was read")
        return size

    def _take_whole(self, answer: Answer) -> None:
        if self._spool is None:
            raise ClipRejectedError(
                "site", "the server sends the file only whole (no Range), and not a part of it"
            )
        self._size, self._spooled = 0, True
        while data := answer.read(CHUNK_BYTES):
            self._size += self._spool.write(data)


class SegmentStream:
    """Segments one behind the other, as one file without seeking.

    Args:
        ask: Sends a request.
        segments: What to read.
        keys: Keys that are known, by URL; those that are fetched are added.
    """

    name = "media"

    def __init__(self, ask: Ask, segments: Iterable[Segment], keys: dict[str, bytes]) -> None:
        self._ask = ask
        self._segments = iter(segments)
        self._keys = keys
        self._init: Resource | None = None
        self._data = b""
        self._answer: Answer | None = None
        self.head = b""  # of the first segment

    def read(self, size: int) -> bytes:
        """The next bytes; empty at the end."""
        while not self._data:
            if self._answer:
                self._data = self._answer.read(CHUNK_BYTES)
                if self._data:
                    break
                self.close()
            segment = next(self._segments, None)
            if segment is None:
                return b""
            self._begin(segment)
        data, self._data = self._data[:size], self._data[size:]
        return data

    def close(self) -> None:
        """Ask for no more of the segment under way."""
        if self._answer:
            self._answer.close()
        self._answer = None

    def _begin(self, segment: Segment) -> None:
        if segment.media.key:
            media = self._all(segment.media)
        else:
            self._answer = self._open(segment.media)
            media = self._answer.read(CHUNK_BYTES)
        self.head = self.head or media
        if segment.init and segment.init != self._init:
            self._init = segment.init
            media = self._all(segment.init) + media
        self._data = media

    def _all(self, resource: Resource) -> bytes:
        answer = self._open(resource)
        try:
            data = read_at_most(answer, _MOST_IN_MEMORY_BYTES, "a segment")
        finally:
            answer.close()
        return data if resource.key is None else _decrypt(data, self._key(resource.key), resource)

    def _open(self, resource: Resource) -> Answer:
        if resource.first is None:
            return self._ask(resource.url, {})
        answer = self._ask(resource.url, {"Range": f"bytes={resource.first}-{resource.last}"})
        if answer.status != 206:
            answer.close()
            raise ClipRejectedError(
                "site", "the server sends the file of all segments only whole (no Range)"
            )
        return answer

    def _key(self, key: Key) -> bytes:
        if key.url not in self._keys:
            answer = self._ask(key.url, {})
            try:
                self._keys[key.url] = read_at_most(answer, CHUNK_BYTES, "a key")
            finally:
                answer.close()
        if len(self._keys[key.url]) != _KEY_BYTES:
            raise ClipRejectedError("site", "the stream's key is none of AES-128")
        return self._keys[key.url]


def read_at_most(answer: Answer, most_bytes: int, what: str) -> bytes:
    """All that is still to come.

    Raises:
        ClipRejectedError: `too_large`, if that is more than `most_bytes`.
    """
    chunks, size = [], 0
    while data := answer.read(CHUNK_BYTES):
        chunks.append(data)
        size += len(data)
        if size > most_bytes:
            raise ClipRejectedError("too_large", f"{what} of more than {most_bytes} bytes")
    return b"".join(chunks)


def read_playlist(answer: Answer) -> list[Segment]:
    """The segments of an HLS media playlist that a server sent; see `parse_playlist`."""
    text = read_at_most(answer, _MOST_PLAYLIST_BYTES, "a playlist").decode(errors="replace")
    return parse_playlist(text, answer.url)


def parse_playlist(text: str, url: str) -> list[Segment]:
    """The segments of an HLS media playlist (RFC 8216).

    Args:
        text: The playlist.
        url: Where it is.

    Raises:
        ClipRejectedError: `live` if it has no end, `drm` if it is protected, `site` if it is not
            understood.
    """
    if not text.lstrip("\ufeff").startswith("#EXTM3U"):
        raise ClipRejectedError("site", "the playlist is none of HLS")
    if "#EXT-X-STREAM-INF" in text:
        raise ClipRejectedError("site", "a list of streams came where one stream was expected")
    parser = _Playlist(url)
    for line in text.splitlines():
        parser.take(line.strip())
    if not parser.ended:
        raise ClipRejectedError("live", "the playlist has no end: it is being written")
    return parser.segments


@dataclass
class _Playlist:
    """What the lines of a playlist have said so far."""

    url: str
    segments: list[Segment] = field(default_factory=list)
    ended: bool = False
    _sequence: int = 0
    _part: int = 0
    _time_s: float = 0.0
    _duration_s: float = 0.0
    _range: str = ""
    _ends: dict[str, int] = field(default_factory=dict)
    _key: Mapping[str, str] = field(default_factory=dict)
    _init: Resource | None = None

    def take(self, line: str) -> None:
        tag, _, value = line.partition(":")
        if line and not line.startswith("#"):
            self._add(line)
        elif tag == "#EXT-X-ENDLIST":
            self.ended = True
        elif tag == "#EXT-X-DISCONTINUITY":
            self._part += 1
        elif tag == "#EXT-X-BYTERANGE":
            self._range = value
        elif tag in ("#EXTINF", "#EXT-X-MEDIA-SEQUENCE"):
            self._count(tag, value)
        elif tag in ("#EXT-X-KEY", "#EXT-X-MAP"):
            self._prepare(tag, {name: text.strip('"') for name, text in _ATTRIBUTE.findall(value)})

    def _count(self, tag: str, value: str) -> None:
        try:
            if tag == "#EXTINF":
                self._duration_s = max(0.0, float(value.partition(",")[0]))
            else:
                self._sequence = int(value)
        except ValueError as error:
            raise ClipRejectedError("site", f"the playlist is not understood: {error}") from error

    def _prepare(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "#EXT-X-MAP":
            self._init = self._resource(attributes.get("URI", ""), attributes.get("BYTERANGE", ""))
            return
        method = attributes.get("METHOD", "NONE")
        if (
            method not in ("NONE", "AES-128")
            or attributes.get("KEYFORMAT", "identity") != "identity"
        ):
            raise ClipRejectedError("drm", f"the stream is protected ({method})")
        self._key = attributes if method == "AES-128" else {}

    def _add(self, uri: str) -> None:
        media = self._resource(uri, self._range)
        self.segments.append(Segment(media, self._time_s, self._duration_s, self._part, self._init))
        self._time_s += self._duration_s
        self._sequence += 1
        self._range = ""

    def _resource(self, uri: str, span: str) -> Resource:
        url = urljoin(self.url, uri)
        key = None
        if self._key:
            iv = self._key.get("IV", f"{self._sequence:032x}").lower().removeprefix("0x")
            key = Key(urljoin(self.url, self._key.get("URI", "")), _iv(iv))
        if not span:
            return Resource(url, key=key)
        length, _, offset = span.partition("@")
        try:
            first = int(offset) if offset else self._ends.get(url, 0)
            end = self._ends[url] = first + int(length)
        except ValueError as error:
            raise ClipRejectedError("site", f"the playlist is not understood: {error}") from error
        return Resource(url, first, end - 1, key)


def fragments(
    listed: Sequence[Mapping[str, Any]], base_url: str, duration_s: float
) -> list[Segment]:
    """The segments that yt-dlp read out of a DASH manifest.

    Args:
        listed: Its `fragments`; the first one without duration is what decoders need.
        base_url: Its `fragment_base_url`.
        duration_s: Of the whole, for a single fragment without duration.

    Raises:
        ClipRejectedError: `site`, if their durations are not known.
    """
    init: Resource | None = None
    segments, time_s = list[Segment](), 0.0
    for fragment in listed:
        resource = Resource(fragment.get("url") or urljoin(base_url, fragment.get("path") or ""))
        length_s = fragment.get("duration")
        if length_s is None and init is None and len(listed) > 1:
            init = resource
            continue
        if length_s is None and len(listed) <= 1:
            length_s = duration_s
        if length_s is None:
            raise ClipRejectedError("site", "the manifest does not say how long its segments are")
        segments.append(Segment(resource, time_s, float(length_s), 0, init))
        time_s += float(length_s)
    return segments


def apple_timestamp(head: bytes) -> int | None:
    """The timestamp in front of a segment of bare sound (RFC 8216, section 3.4), at 90 kHz."""
    owner = b"com.apple.streaming.transportStreamTimestamp\0"
    place = head.find(owner, 0, 4096)
    if not head.startswith(b"ID3") or place < 0:
        return None
    start = place + len(owner)
    return int.from_bytes(head[start : start + 8])


def _iv(text: str) -> bytes:
    try:
        iv = bytes.fromhex(text.zfill(2 * _KEY_BYTES))
    except ValueError:
        iv = b""
    if len(iv) != _KEY_BYTES:
        raise ClipRejectedError("site", "the playlist's initialisation vector is not understood")
    return iv


def _decrypt(data: bytes, key: bytes, resource: Resource) -> bytes:
    assert resource.key is not None
    decryptor = Cipher(algorithms.AES(key), modes.CBC(resource.key.iv)).decryptor()
    unpadder = PKCS7(8 * _KEY_BYTES).unpadder()
    try:
        plain = decryptor.update(data) + decryptor.finalize()
        return unpadder.update(plain) + unpadder.finalize()
    except ValueError as error:
        raise ClipRejectedError("corrupt", "a segment cannot be decrypted") from error


def _exactly(answer: Answer, size: int) -> bytes:
    chunks = list[bytes]()
    left = size
    while left:
        data = answer.read(min(left, CHUNK_BYTES))
        if not data:
            raise ClipRejectedError("connection", "the connection ended early")
        chunks.append(data)
        left -= len(data)
    return b"".join(chunks)
