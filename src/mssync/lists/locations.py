"""Where is a listed source, and who is asked for it?

A source is a file, a media file on the web, a page of a web video site that yt-dlp reads, or an
object in a store that fsspec knows.
"""

import re
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import fsspec

Kind = Literal["file", "web", "site", "object"]

SITE_PREFIX = "yt-dlp+"
MEDIA_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts",
    ".flv", ".wmv", ".asf", ".3gp", ".3g2", ".ogv", ".ogg", ".mxf", ".gif",
})  # fmt: skip

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_WEB = frozenset({"http", "https"})
_SITE = frozenset({f"{SITE_PREFIX}http", f"{SITE_PREFIX}https"})
# What fsspec knows but is no store elsewhere: this machine, and wrappers of other file systems.
_NO_STORES = frozenset({
    "async_wrapper", "asynclocal", "asyncwrapper", "blockcache", "cached", "dask", "data", "dir",
    "dvc", "file", "filecache", "generic", "git", "libarchive", "local", "memory", "pyscript",
    "reference", "simplecache", "tar", "zip",
})  # fmt: skip


def scheme_of(source: str) -> str:
    """Scheme of an address in lower case; empty for a path."""
    found = _SCHEME.match(source)
    return found[1].lower() if found else ""


def is_url(source: str) -> bool:
    """Whether a source is fetched over HTTP(S)."""
    return scheme_of(source) in _WEB


def locate(source: str, *, base: str, folder: Path) -> str:
    """Where a listed source is: an address, or a local path.

    Args:
        source: As written in the list.
        base: Folder or address that relative sources start from; empty: the list's folder.
        folder: The list's folder.
    """
    if scheme_of(source) or Path(source).is_absolute():
        return source
    if scheme_of(base):
        # names of objects are not quoted, paths on the web are
        return base.rstrip("/") + "/" + (quote(source) if is_url(base) else source)
    return str((Path(base) if base else folder) / source)


def relative_to(base: str, source: str) -> str:
    """A source as it is listed: relative where it lies under the base and leads back to itself."""
    prefix = base.rstrip("/") + "/"
    if not base or not source.startswith(prefix):
        return source
    rest = source.removeprefix(prefix)
    name = unquote(rest) if is_url(base) else rest
    # a query, an unusual quoting, or what would be read as absolute: it stays as it is
    same = not is_url(base) or quote(name) == rest
    return name if same and name and not name.startswith("/") and not scheme_of(name) else source


def fault(source: str) -> str:
    """What is wrong with how a source is written, without the secrets in it; empty: nothing."""
    if "\0" in source:
        return "`source` holds a NUL character"
    scheme = scheme_of(source)
    if not scheme:
        return ""
    authority = re.split(r"[/?#]", source.split("://", 1)[1], maxsplit=1)[0]
    if "@" in authority:
        return (
            "the address holds a user or a password: put credentials into the secrets file "
            "($MSSYNC_SECRETS, docs/sources.md)"
        )
    if scheme in _WEB | _SITE:
        return ""
    if scheme == "file":
        return "`source` is a file:// address: give the path"
    if scheme in _NO_STORES or scheme not in fsspec.available_protocols():
        return (
            f"{scheme}:// is not known: expected a path, http(s)://, yt-dlp+https:// (a page that "
            "yt-dlp reads), s3://, gs:// or another store that fsspec knows"
        )
    if "::" in source:
        return "`source` holds `::`, which chains file systems: give one address"
    return ""


def location_kind(location: str) -> Kind:
    """How a location is read.

    Args:
        location: As `locate` returns it.

    Returns:
        `file`; `site` for a page of a web video site; `web` for anything else on the web; `object`
        for an object store. An address that ends like a media file is never taken for a page.
    """
    scheme = scheme_of(location)
    if not scheme:
        return "file"
    if scheme in _SITE:
        return "site"
    if scheme not in _WEB:
        return "object"
    path = re.split(r"[?#]", location, maxsplit=1)[0]
    if PurePosixPath(path).suffix.lower() in MEDIA_SUFFIXES:
        return "web"
    return "site" if _extractor(location) else "web"


def site_name(url: str) -> str:
    """Name of a web video site, as `youtube` for all of its hosts; the host where it has none."""
    if scheme_of(url) in _SITE:
        url = url[len(SITE_PREFIX) :]
    extractor = _extractor(url)
    if extractor is None:
        return _host(url)
    # yt_dlp.extractor.<site>: one module, one site
    module = getattr(extractor, "_module", extractor.__module__).split(".")[2]
    return _host(url) if module == "unsupported" else module


def host_of(location: str) -> str:
    """Who is asked for a location: a site's name, a host, `s3://bucket`; empty for a file."""
    kind = location_kind(location)
    if kind == "file":
        return ""
    if kind == "site":
        return site_name(location)
    return _host(location) if kind == "web" else f"{scheme_of(location)}://{_host(location)}"


def without_secrets(address: str) -> str:
    """An address without user, password and query: what may be logged. A path stays as it is."""
    if not scheme_of(address):
        return address
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        return (parts.hostname if parts.scheme in _WEB else parts.netloc) or ""
    except ValueError:  # no address at all, as whoever fetches it will say
        return ""


# Which extractor takes an address, only trying all 1800 can tell: 1 ms each. Here those are tried
# in whose pattern some word is part of the host: 10 us for YouTube, 0.15 ms for an unknown host.


@lru_cache(maxsize=4096)
def _extractor(url: str) -> Any | None:  # noqa: ANN401 - yt-dlp is untyped
    """The first of yt-dlp's extractors, the generic one aside, that takes an address."""
    host = _host(url)
    return next((one for one in _candidates(host) if one.suitable(url)), None) if host else None


@lru_cache(maxsize=4096)
def _candidates(host: str) -> list[Any]:
    extractors, by_word, any_host = _index()
    pieces = {host[a:b] for a in range(len(host)) for b in range(a + 2, len(host) + 1)}
    found = set(any_host)
    for word in pieces | set(host.split(".")):
        found.update(by_word.get(word, ()))
    return [extractors[number] for number in sorted(found)]


_DOMAIN = re.compile(r"\\\.(\(\?:)?[a-z]{2,}")
_UPPER_OR_LOWER = re.compile(r"\[(\w)\1\]")
_NO_WORDS = re.compile(r"\(\?p<\w+>|\\[wdsb]|\[[^\]]*\]")
# Parts of so many patterns that they tell nothing.
_EVERYWHERE = frozenset({"", "http", "https", "www", "com", "net", "org", "html", "video", "id"})


@cache
def _index() -> tuple[list[Any], dict[str, list[int]], list[int]]:
    """All extractors, which of them hold a word in their pattern, and which name no domain."""
    from yt_dlp.extractor import gen_extractor_classes  # takes half a second

    extractors = [one for one in gen_extractor_classes() if one.IE_NAME != "generic"]
    by_word, any_host = dict[str, list[int]](), list[int]()
    for number, extractor in enumerate(extractors):
        patterns = extractor._VALID_URL or ()
        pattern = " ".join([patterns] if isinstance(patterns, str) else patterns).lower()
        if pattern and not _DOMAIN.search(pattern.split("://", 1)[-1]):
            any_host.append(number)
        for word in _words(pattern):
            by_word.setdefault(word, []).append(number)
    return extractors, by_word, any_host


def _words(pattern: str) -> set[str]:
    """Words that stand in a pattern; of one whose last letter may be missing, both forms."""
    plain = _NO_WORDS.sub(" ", _UPPER_OR_LOWER.sub(r"\1", pattern)).replace("\\-", "-")
    words = set[str]()
    for word in re.findall(r"[a-z0-9-]+\??", plain):
        words |= {word[:-1], word[:-2]} if word.endswith("?") else {word}
    return {word.strip("-") for word in words} - _EVERYWHERE
