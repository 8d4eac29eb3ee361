"""What only the operator may know: cookies, proxy, headers, extractor arguments.

`$MSSYNC_SECRETS` names a YAML file, all of whose keys may be left out:

    proxy: http://user:password@proxy.example.org:3128
    cookies: cookies.txt              # Netscape's format; relative to this file
    headers:
      example.org:                    # this host and its subdomains
        Authorization: Bearer abc
    extractor_args:                   # yt-dlp's, by extractor
      youtube:
        player_client: [web, android]

`$MSSYNC_SECRET_PROXY` and `$MSSYNC_SECRET_COOKIES` (a path) go before the file.
"""

import base64
import binascii
import ipaddress
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, quote_plus, unquote, urlsplit
from urllib.request import Request

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from mssync import log
from mssync.download.addresses import parse_proxy
from mssync.errors import InputError

logger = logging.getLogger(__name__)

FILE = "MSSYNC_SECRETS"
PROXY = "MSSYNC_SECRET_PROXY"
COOKIES = "MSSYNC_SECRET_COOKIES"

# Shorter values are settings (`web`, `true`); without them every text would be full of stars.
_SHORTEST_CHARACTERS = 6
_SHORTEST_PASSWORD_CHARACTERS = 3
_HIDDEN = "***"
_USERINFO = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s/?#\"<>]*@", re.IGNORECASE)

_MAGIC = re.compile(r"#( Netscape)? HTTP Cookie File")
_HEADER = "# Netscape HTTP Cookie File\n"
_HTTP_ONLY = "#HttpOnly_"
_EXPIRY = re.compile(r"(-?[0-9]{1,20}(\.[0-9]{1,9})?)?")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_MOST_NAMED = 5

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]+")
# What the downloader sets itself, and where a value of somebody else's would mislead it.
_OWN_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "host", "if-match", "if-modified-since",
     "if-none-match", "if-range", "if-unmodified-since", "range", "trailer",
     "transfer-encoding", "upgrade"}
)  # fmt: skip
# No secrets: with stars for a referer, the addresses of a whole site would be unreadable.
_OPEN_HEADERS = frozenset({"accept", "accept-language", "origin", "referer", "user-agent"})
_SCHEME = re.compile(r"(?:basic|bearer|digest|negotiate|token|apikey)\s+(\S.*)", re.IGNORECASE)


def _header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError("not the name of a header")
    if name.lower() in _OWN_HEADERS:
        raise ValueError("the downloader sets this header itself")
    return name


def _header_value(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value):
        raise ValueError("expected one line of ASCII text")
    return value.strip()


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


_HeaderName = Annotated[str, AfterValidator(_header_name)]
_HeaderValue = Annotated[str, AfterValidator(_header_value)]
_Values = Annotated[list[str], BeforeValidator(_one_or_more)]


class _File(BaseModel):
    """Schema of `$MSSYNC_SECRETS`."""

    # strict: YAML reads 0123 as another number, which nobody would find
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    proxy: str = ""
    cookies: str = ""
    headers: dict[str, dict[_HeaderName, _HeaderValue]] = {}
    extractor_args: dict[str, dict[str, _Values]] = {}


@dataclass(frozen=True)
class Secrets:
    """Never printed: not in a log, a ledger, a process list or an error.

    Attributes:
        proxy: URL of the proxy that everything goes through, `http://user:password@host:port`.
        cookies: Content of a cookie file in Netscape's format.
        headers: Headers by host, for that host and its subdomains alone.
        extractor_args: For yt-dlp, by extractor, as its Python interface takes them.
    """

    proxy: str = field(default="", repr=False)
    cookies: str = field(default="", repr=False)
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    extractor_args: Mapping[str, Mapping[str, list[str]]] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Take only what was given along to another process."""
        return Secrets, (self.proxy, self.cookies, self.headers, self.extractor_args)

    def redact(self, text: str) -> str:
        """The text with `***` for every secret in it, and for the user and password of any URL."""
        for value in self._values:
            if value in text:
                text = text.replace(value, _HIDDEN)
        return _USERINFO.sub(rf"\1{_HIDDEN}@", text)

    def headers_for(self, url: str) -> dict[str, str]:
        """The headers, cookies included, that a request for a URL carries.

        Ask again for every redirect: what one host may see is not for another.

        Args:
            url: With scheme `http` or `https`.
        """
        host = _plain_host(urlsplit(url).hostname or "")
        found = dict[str, tuple[str, str]]()
        # from the widest domain to the host itself, whose own word counts most
        for configured in sorted(self.headers, key=len):
            if _covers(_plain_host(configured), host):
                for name, value in self.headers[configured].items():
                    found[name.lower()] = name, value
        headers = dict(found.values())
        cookies = self._cookies_for(url)
        if cookies and "cookie" not in found:
            headers["Cookie"] = cookies
        return headers

    def _cookies_for(self, url: str) -> str:
        if not self.cookies:
            return ""
        parts = urlsplit(url)
        host = _plain_host(parts.hostname or "")
        netloc = f"[{host}]" if ":" in host else host
        request = Request(f"{parts.scheme}://{netloc}{parts.path or '/'}")
        self._jar.add_cookie_header(request)
        return str(request.get_header("Cookie", ""))

    @cached_property
    def _jar(self) -> CookieJar:
        # a cookie without a domain of its own is for its host alone, not for subdomains
        policy = DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainStrictNonDomain)
        jar = CookieJar(policy)
        for cookie in _read_cookies(self.cookies, "the cookies"):
            if f"{cookie.name}{cookie.value}".isascii():  # HTTP headers are
                jar.set_cookie(cookie)
        return jar

    @cached_property
    def _values(self) -> list[str]:
        """Every spelling of every secret, the longest first."""
        shortest = _SHORTEST_CHARACTERS
        secrets = [secret for secret in self._secrets() if len(secret) >= shortest]
        secrets += _proxy_secrets(self.proxy)
        spellings = {spelling for secret in secrets for spelling in _spellings(secret)}
        return sorted(spellings - {""}, key=lambda value: (-len(value), value))

    def _secrets(self) -> Iterator[str]:
        for cookie in _read_cookies(self.cookies, "the cookies"):
            yield cookie.value if cookie.value is not None else cookie.name
        for headers in self.headers.values():
            for name, value in headers.items():
                yield from _header_secrets(name, value)
        for arguments in self.extractor_args.values():
            for values in arguments.values():
                yield from values


def load(environ: Mapping[str, str] = os.environ) -> Secrets:
    """What the environment names; warns of files that others may read and of expired cookies.

    Args:
        environ: Environment of the process.

    Raises:
        InputError: If a file is missing or of the wrong form. It names the file and the key, and
            never a value.
    """
    named = environ.get(FILE, "")
    read, proxy_from, folder = _File(), PROXY, Path()
    if named:
        path = Path(named).expanduser()
        read, proxy_from, folder = _read_file(path), f"{path}: proxy", path.parent
    proxy = environ.get(PROXY) or read.proxy
    if proxy:
        _check_proxy(proxy, PROXY if environ.get(PROXY) else proxy_from)
    cookies = ""
    if environ.get(COOKIES):
        cookies = _load_cookies(Path(environ[COOKIES]).expanduser(), COOKIES)
    elif read.cookies:
        cookies = _load_cookies(folder / Path(read.cookies).expanduser(), f"{named}: cookies")
    return Secrets(proxy, cookies, read.headers, read.extractor_args)


def register(secrets: Secrets) -> None:
    """From now on, keep these secrets out of this process's log."""
    log.redact_with(secrets.redact)


def _read_file(path: Path) -> _File:
    text = _read_text(path, FILE)
    # what YAML and pydantic say may quote the file: their errors go no further than this function
    problem = ""
    try:
        return _File.model_validate(yaml.safe_load(text) or {})
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = "not YAML" + (f", line {mark.line + 1}" if mark else "")
    except yaml.YAMLError:
        problem = "not YAML"
    except ValidationError as error:
        found = error.errors(include_input=False, include_context=False, include_url=False)
        problem = "\n".join(
            f"  {'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in found
        )
        problem = _USERINFO.sub(rf"\1{_HIDDEN}@", f"does not fit the schema:\n{problem}")
    except (ValueError, RecursionError):  # a date that is none
        problem = "not YAML"
    raise InputError(
        f"{path} ({FILE}): {problem}\nexpected the keys {', '.join(_File.model_fields)} "
        "(docs/sources.md); texts that look like numbers need quotes"
    )


def _read_text(path: Path, named_by: str) -> str:
    problem = ""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        problem = "not UTF-8 text"
    if problem:
        raise InputError(f"{path} ({named_by}): {problem}")
    if mode & 0o077:
        logger.warning("%s holds secrets and others may read it: chmod 600 it", path)
    return text


def _check_proxy(url: str, named_by: str) -> None:
    try:
        parse_proxy(url)
    except InputError as error:
        problem = str(error)
    else:
        return
    raise InputError(f"{named_by}: {problem}")


def _load_cookies(path: Path, named_by: str) -> str:
    """A cookie file's content, in the one spelling that every reader understands."""
    text = _read_text(path, named_by)
    if not _MAGIC.match(text):
        raise InputError(
            f"{path} ({named_by}): expected a cookie file in Netscape's format, whose first line "
            f"is {_HEADER.strip()!r}: export it again as cookies.txt"
        )
    cookies = _read_cookies(text, f"{path} ({named_by})")
    expired = sorted({cookie.domain.lstrip(".") for cookie in cookies if cookie.is_expired()})
    if expired:
        more = f" and {len(expired) - _MOST_NAMED} more" if len(expired) > _MOST_NAMED else ""
        names = ", ".join(expired[:_MOST_NAMED]) + more
        logger.warning("%s: cookies of %s have expired: export them again", path, names)
    return _HEADER + "".join(map(_cookie_line, cookies))


def _read_cookies(text: str, where: str) -> list[Cookie]:
    cookies = []
    for number, line in enumerate(text.split("\n"), start=1):
        entry = line.removeprefix(_HTTP_ONLY)
        if not entry.strip() or entry.lstrip().startswith("#"):
            continue
        cookie = _read_cookie(entry)
        if cookie is None:
            raise InputError(
                f"{where}: line {number} is no cookie: expected seven fields between tabs: domain, "
                "TRUE or FALSE, path, TRUE or FALSE, seconds since 1970, name, value"
            )
        cookies.append(cookie)
    return cookies


def _read_cookie(entry: str) -> Cookie | None:
    fields = entry.split("\t")
    if len(fields) == 6:
        fields.append("")  # an editor took the last tab away
    if len(fields) != 7 or _CONTROL.search(entry):
        return None
    domain, subdomains, path, secure, expires, name, value = fields
    flags = {subdomains.upper(), secure.upper()} <= {"TRUE", "FALSE"}
    domain = domain.strip().lower()
    if not (flags and domain.strip(".") and path.startswith("/") and _EXPIRY.fullmatch(expires)):
        return None
    # exporters disagree about the dot; the flag beside it says the same
    dotted = subdomains.upper() == "TRUE"
    expires_s = max(0, int(float(expires or 0)))  # 0 is a cookie of a session, not of 1970
    return Cookie(
        version=0,
        name=name or value,
        value=value if name else None,
        port=None,
        port_specified=False,
        domain="." + domain.lstrip(".") if dotted else domain.lstrip("."),
        domain_specified=dotted,
        domain_initial_dot=dotted,
        path=path,
        path_specified=True,
        secure=secure.upper() == "TRUE",
        expires=expires_s or None,
        discard=not expires_s,
        comment=None,
        comment_url=None,
        rest={},
    )


def _cookie_line(cookie: Cookie) -> str:
    name, value = (cookie.name, cookie.value) if cookie.value is not None else ("", cookie.name)
    flags = ["TRUE" if flag else "FALSE" for flag in (cookie.domain_specified, cookie.secure)]
    fields = [cookie.domain, flags[0], cookie.path, flags[1], str(cookie.expires or 0), name, value]
    return "\t".join(fields) + "\n"


def _plain_host(host: str) -> str:
    """A host as DNS writes it."""
    host = host.strip("[].").lower()
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return host


def _covers(domain: str, host: str) -> bool:
    if host == domain:
        return True
    # `com` or an address has no subdomains that are its owner's
    return "." in domain and not _is_address(domain) and host.endswith("." + domain)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _proxy_secrets(proxy: str) -> list[str]:
    """What a proxy's URL hides, however it is written: user and password, in clear and encoded."""
    if "@" not in proxy:
        return []
    userinfo = proxy.partition("://")[2].rpartition("@")[0]
    user, _, password = userinfo.partition(":")
    pair = f"{unquote(user)}:{unquote(password)}"
    secrets = [proxy, userinfo, pair, base64.b64encode(pair.encode()).decode()]
    alone = password or user  # a lone user is a token
    if len(alone) >= _SHORTEST_PASSWORD_CHARACTERS:
        secrets += [alone, unquote(alone)]
    return secrets


def _header_secrets(name: str, value: str) -> Iterator[str]:
    if name.lower() in _OPEN_HEADERS:
        return
    yield value
    if name.lower() == "cookie":
        for cookie in value.split(";"):
            yield cookie.partition("=")[2].strip()
    scheme = _SCHEME.fullmatch(value)
    if not scheme:
        return
    yield scheme[1]
    try:
        pair = base64.b64decode(scheme[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return
    if ":" in pair:
        yield pair
        yield pair.partition(":")[2]


def _spellings(secret: str) -> set[str]:
    """A text as URLs, JSON and Python's own messages write it."""
    encoded = {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    lowered = {re.sub("%..", lambda found: found[0].lower(), text) for text in encoded}
    escaped = {repr(secret)[1:-1], ascii(secret)[1:-1], json.dumps(secret)[1:-1]}
    return {secret, *encoded, *lowered, *escaped}
