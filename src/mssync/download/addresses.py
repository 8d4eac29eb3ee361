"""Where may we connect?

A list is somebody else's text, and so is every redirect and every answer of a name server. What
they name must be on the public internet: nothing in this machine, this network or this cloud
account, unless the operator names it as a local mirror.

The check is made on the addresses that a name leads to, when a connection is opened, and the
connection goes to the very address that was checked. So it does not matter how an address is
spelled, nor whether the name leads elsewhere a moment later. A connection that is kept open for
the next request was checked when it was opened.
"""

import os
import re
import socket
import time
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

import httpcore
import httpx

from mssync import __version__
from mssync.errors import ClipRejectedError, InputError

MIRRORS = "MSSYNC_LOCAL_MIRRORS"

_GLOBAL_IPV6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# `is_global` of the standard library lets these pass, or does so in some versions.
_NOT_PUBLIC = tuple(
    ip_network(network)
    for network in (
        "192.0.0.0/24",  # special purposes; a metadata service lives here
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # the platform's own service in Azure
        "224.0.0.0/4",  # multicast
        "2001::/23",  # Teredo and other special purposes
        "2002::/16",  # 6to4: leads to an IPv4 address
        "3fff::/20",  # documentation
    )
)
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MOST_ADDRESSES = 8  # of one name that are tried
_IDLE_S = 30.0  # a connection is kept for the next request to its host


@dataclass(frozen=True)
class Policy:
    """Public addresses, and the mirrors that the operator names.

    Attributes:
        mirrors: Host names, IP addresses or networks (`10.1.0.0/16`) that are allowed though they
            are not public. A name is allowed with whatever it leads to; an address is allowed
            whichever name leads to it.

    Raises:
        InputError: If a mirror is none of these.
    """

    mirrors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _ = self._parsed

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Policy":
        """The policy of this machine: mirrors are those of `MSSYNC_LOCAL_MIRRORS`.

        Raises:
            InputError: If an entry is no host, address or network.
        """
        entries = (entry.strip() for entry in environ.get(MIRRORS, "").split(","))
        return cls(tuple(entry for entry in entries if entry))

    def check_url(self, url: str) -> None:
        """Look at the form of a URL: nothing is looked up.

        Raises:
            ClipRejectedError: `refused`, if it is not `http(s)://host[:port]/...`.
        """
        problem = _problem(url)
        if problem:
            raise ClipRejectedError("refused", f"http(s)://host/path was expected: {problem}")

    def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host that may be connected to, best first.

        Addresses that are not allowed are left out, since nothing is ever sent to them; a public
        host with one useless private record is still reached.

        Raises:
            ClipRejectedError: `refused`, if none is allowed; `connection`, if there is none.
        """
        found = _look_up(host, port)
        allowed = [address for address in found if self._allows(host, address)]
        if not allowed:
            raise _not_public(host, found)
        return allowed

    def check_target(self, host: str, port: int) -> None:
        """Look at a host that an upstream proxy will connect to.

        The proxy looks the name up itself, so here every address must be allowed. A name that
        cannot be found here is left to the proxy: behind it, names of the outside world often
        cannot be looked up.

        Raises:
            ClipRejectedError: `refused`, if an address is not allowed.
        """
        try:
            found = _look_up(host, port)
        except ClipRejectedError as error:
            if error.reason == "connection":
                return
            raise
        refused = [address for address in found if not self._allows(host, address)]
        if refused:
            raise _not_public(host, refused)

    def is_mirror(self, host: str) -> bool:
        """Whether a host, as written, is one of the mirrors."""
        names, networks = self._parsed
        name = _normal(host)
        if name in names:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return any(form in network for form in _forms(address) for network in networks)

    def _allows(self, host: str, address: str) -> bool:
        return self.is_mirror(host) or self.is_mirror(address) or _is_public(ip_address(address))

    @cached_property
    def _parsed(self) -> tuple[frozenset[str], tuple[IPv4Network | IPv6Network, ...]]:
        names, networks = set(), []
        for entry in self.mirrors:
            mirror = _parse_mirror(entry)
            if isinstance(mirror, str):
                names.add(mirror)
            else:
                networks.append(mirror)
        return frozenset(names), tuple(networks)


class CheckedBackend(httpcore.SyncBackend):
    """Opens connections to what the policy allows, and to nothing else."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that answers; `timeout` is for all of them together.

        Raises:
            ClipRejectedError: As `Policy.resolve` does.
        """
        addresses = self._policy.resolve(host, port)[:_MOST_ADDRESSES]
        deadline = None if timeout is None else time.monotonic() + timeout
        for left in range(len(addresses), 0, -1):
            share = None if deadline is None else max(deadline - time.monotonic(), 0.01) / left
            try:
                return super().connect_tcp(
                    addresses[-left], port, share, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if left == 1:
                    raise
        raise AssertionError("resolve gave no address")


class _CheckedTransport(httpx.HTTPTransport):
    def __init__(self, policy: Policy, *, connections: int, proxy: str) -> None:
        # Certificates of the operator (SSL_CERT_FILE) count; proxies of the environment do not.
        context = httpx.create_ssl_context()
        super().__init__(verify=context)
        self._policy = policy
        self._proxied = bool(proxy)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            proxy=core_proxy(proxy) if proxy else None,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=_IDLE_S,
            # The operator named the proxy, so it may be anywhere.
            network_backend=None if proxy else CheckedBackend(policy),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._policy.check_url(str(request.url))
        if self._proxied:
            self._policy.check_target(request.url.raw_host.decode(), request.url.port or 80)
        return super().handle_request(request)


class _Router(httpx.BaseTransport):
    """Sends a request through the operator's proxy, or past it."""

    def __init__(self, policy: Policy, *, connections: int, proxy: str) -> None:
        self._policy = policy
        self._direct = _CheckedTransport(policy, connections=connections, proxy="")
        self._proxied = _CheckedTransport(policy, connections=connections, proxy=proxy)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        self._policy.check_url(url)
        way = self._direct if goes_direct(url, self._policy) else self._proxied
        return way.handle_request(request)

    def close(self) -> None:
        self._direct.close()
        self._proxied.close()


def make_client(
    policy: Policy, *, timeout_s: float, connections: int, proxy: str = ""
) -> httpx.Client:
    """A client that connects only where the policy allows.

    It follows no redirects: each one is a new request of the caller's, and is checked like the
    first. Proxies of the environment are not used unless given.

    Args:
        policy: What may be connected to.
        timeout_s: Longest silence of a server. A request waits for a free connection without
            limit, because that is not the server's fault.
        connections: Most connections at a time.
        proxy: URL of the operator's proxy, `http://user:password@host:port`; everything goes
            through it but what `goes_direct`. It may be at any address; the targets are checked
            by `check_target`.

    Returns:
        The client, to be closed by the caller. Its methods raise ClipRejectedError for what is
        not allowed, besides httpx's own errors. Threads may share it.

    Raises:
        InputError: If `proxy` is not such a URL.
    """
    way = _Router if proxy else _CheckedTransport
    return httpx.Client(
        transport=way(policy, connections=connections, proxy=proxy),
        timeout=httpx.Timeout(timeout_s, pool=None),
        headers={"User-Agent": f"mssync/{__version__}"},
        follow_redirects=False,
        trust_env=False,
    )


def goes_direct(url: str, policy: Policy) -> bool:
    """Whether a URL is asked without the operator's proxy: mirrors, this machine, NO_PROXY.

    Args:
        url: A URL that passed `check_url`.
        policy: Its mirrors are local.
    """
    target = httpx.URL(url)
    host = _normal(target.raw_host.decode())
    if policy.is_mirror(host) or host == "localhost":
        return True
    return bool(urllib.request.proxy_bypass(target.netloc.decode()))


def environment_proxy(environ: Mapping[str, str]) -> str:
    """The proxy that the standard variables name; empty where they name none."""
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "http_proxy"):
        if proxy := environ.get(name, ""):
            return proxy if "://" in proxy else f"http://{proxy}"
    return ""


def parse_proxy(url: str) -> httpx.Proxy:
    """Read the URL of the operator's proxy.

    Returns:
        The proxy, with its password apart from its URL.

    Raises:
        InputError: If it is not `http://[user:password@]host[:port]`; the message does not show it.
    """
    try:
        proxy = httpx.Proxy(url)
    except (httpx.InvalidURL, ValueError):
        proxy = None
    if proxy is None or proxy.url.scheme != "http" or not proxy.url.host:
        raise InputError(
            "the proxy's URL (not shown, it may hold a password) is not understood: "
            "expected http://host:port or http://user:password@host:port"
        )
    return proxy


def core_proxy(url: str) -> httpcore.Proxy:
    """The operator's proxy as httpcore takes it.

    Raises:
        InputError: As `parse_proxy` does.
    """
    proxy = parse_proxy(url)
    return httpcore.Proxy(
        httpcore.URL(
            scheme=proxy.url.raw_scheme,
            host=proxy.url.raw_host,
            port=proxy.url.port or 80,
            target=b"/",
        ),
        auth=proxy.raw_auth,
    )


def _problem(url: str) -> str:
    """What is wrong with a URL's form; never any part of it that may be a password."""
    if _CONTROL.search(url):
        return "there is a control character in it"
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        return "it is malformed" if "@" in url else str(error)
    except UnicodeError:
        return "there is half a character in it"
    if parsed.scheme not in ("http", "https"):
        return f"the scheme is {parsed.scheme!r}" if parsed.scheme else "there is no scheme"
    if parsed.userinfo:
        return "there is a user or password in it"
    host = parsed.raw_host.decode()
    if not _is_host(host):
        return f"{host!r} is no host" if host else "there is no host"
    if parsed.port is not None and not 0 < parsed.port < 65536:
        return f"there is no port {parsed.port}"
    return ""


def _is_host(host: str) -> bool:
    if ":" not in host:
        return bool(_HOST_NAME.fullmatch(_normal(host)))
    try:
        return IPv6Address(host).scope_id is None
    except ValueError:
        return False


def _normal(host: str) -> str:
    """One spelling for each name: `[::1]`, `Example.ORG.`."""
    return host.strip("[]").lower().removesuffix(".")


def _look_up(host: str, port: int) -> list[str]:
    name = _normal(host)
    if not _is_host(name):
        raise ClipRejectedError("refused", f"{host!r} is no host")
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty or too long
        raise ClipRejectedError("refused", f"{host!r} is no host name") from error
    except OSError as error:
        raise ClipRejectedError(
            "connection", f"{name} cannot be found: {error.strerror or error}"
        ) from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _not_public(host: str, addresses: list[str]) -> ClipRejectedError:
    name, address = _normal(host), min(addresses)
    subject = name if name == address else f"{name} leads to {address}, which"
    return ClipRejectedError(
        "refused",
        f"{subject} is not a public address; a local mirror must be named in {MIRRORS}",
    )


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to a host of the public internet."""
    address = _forms(address)[-1]
    if isinstance(address, IPv6Address) and address not in _GLOBAL_IPV6:
        return False
    return address.is_global and not any(address in network for network in _NOT_PUBLIC)


def _forms(address: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """The address, and the IPv4 address that it stands for (mapped, or translated by NAT64)."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return [address, address.ipv4_mapped]
        if address in _NAT64:
            return [address, IPv4Address(int(address) & 0xFFFF_FFFF)]
    return [address]


def _parse_mirror(entry: str) -> str | IPv4Network | IPv6Network:
    try:
        return ip_network(entry.strip("[]"))
    except ValueError:
        pass
    try:
        name = _normal(httpx.URL(f"http://{entry}/").raw_host.decode())
    except httpx.InvalidURL:
        name = ""
    whole = name.isascii() and _HOST_NAME.fullmatch(name) and not set(entry) & set(":/@?#[]")
    if not whole or _NUMBER.fullmatch(name.rpartition(".")[2]):
        raise InputError(
            f"{MIRRORS}: {entry!r} is no host name, IP address or network: "
            "expected for example mirror.lan, 127.0.0.1 or 10.1.0.0/16, without scheme and port"
        )
    return name
