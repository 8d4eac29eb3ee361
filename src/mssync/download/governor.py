"""How hard may each host be asked, and when not at all?

A token bucket bounds the rate, a count the connections. Refusals in a row open a circuit breaker:
the host rests, then one request tries; when it is refused too, the rest doubles, and after
`breaker_pauses` of them the host is left for a later run. What a host asks for by `Retry-After`
holds for all requests to it.
"""

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from mssync.errors import ClipRejectedError
from mssync.params import DownloadVideos, HostLimits

logger = logging.getLogger(__name__)

# Answers that say more about the host than about the source. Others end a row of them.
_REFUSALS = frozenset(
    {"bot_check", "rate_limit", "forbidden", "timeout", "connection", "server_error"}
)
_JITTER = (0.5, 1.5)
_MANY_HOSTS = 10_000
# Local files are nobody's server.
_NO_HOST = HostLimits(requests_per_s=1e9, burst=1_000_000, connections=1_000_000)


@dataclass
class _Host:
    limits: HostLimits
    tokens: float
    filled: float
    running: int = 0
    failures: int = 0
    pauses: int = 0
    not_before: float = 0.0
    given_up: str = ""


class Governor:
    """Decides when a request may go out; safe to be asked by many threads.

    Args:
        params: The stage's section.
        clock: Seconds that only grow.
        rng: Source of the jitter.
    """

    def __init__(
        self,
        params: DownloadVideos,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._params = params
        self._clock = clock
        self._rng = rng or random.Random()
        self._hosts = dict[str, _Host]()
        self._lock = Lock()

    def ready_in(self, host: str) -> float:
        """Seconds until a request may go out; infinite while all connections are taken."""
        with self._lock:
            return self._wait_s(self._of(host))

    def start(self, host: str) -> None:
        """Take a connection and a token; the caller has seen that `ready_in` is 0."""
        with self._lock:
            state = self._of(host)
            state.running += 1
            state.tokens -= 1.0

    def finish(self, host: str, error: ClipRejectedError | None, *, asked: bool = True) -> None:
        """Give the connection back, and learn from how it went.

        Args:
            host: Whose it was.
            error: What went wrong.
            asked: False if the host was not asked after all: then the token goes back too.
        """
        with self._lock:
            state = self._of(host)
            state.running -= 1
            if asked:
                self._learn(host, state, error)
            else:
                state.tokens += 1.0
            if len(self._hosts) > _MANY_HOSTS:
                self._forget()

    def given_up(self, host: str) -> ClipRejectedError | None:
        """Why a host is not asked any more in this run; None while it is."""
        with self._lock:
            state = self._hosts.get(host)
        if state is None or not state.given_up:
            return None
        return ClipRejectedError("host_paused", f"{host} is left for a later run: {state.given_up}")

    def admit(self, host: str) -> None:
        """Wait for a token of a host that a redirect leads to.

        Raises:
            ClipRejectedError: `host_paused`, if it is not asked in this run, or not soon.
        """
        waited_s = 0.0
        while True:
            error = self.given_up(host)
            if error:
                raise error
            with self._lock:
                state = self._of(host)
                wait_s = max(self._pause_s(state), self._token_s(state))
                if wait_s <= 0:
                    state.tokens -= 1.0
                    return
            waited_s += wait_s
            if waited_s > self._params.max_wait_s:
                raise ClipRejectedError(
                    "host_paused",
                    f"{host} rests for longer than max_wait_s: a redirect leads there",
                )
            time.sleep(wait_s)

    def backoff_s(self, tries: int) -> float:
        """How long to wait after so many tries of one source, jittered."""
        wait_s = self._params.backoff_s * 2.0 ** (tries - 1) * self._rng.uniform(*_JITTER)
        return min(wait_s, self._params.max_wait_s)

    def _of(self, host: str) -> _Host:
        state = self._hosts.get(host)
        if state is None:
            limits = self._params.hosts.get(host, self._params.per_host) if host else _NO_HOST
            state = _Host(limits, float(limits.burst), self._clock())
            self._hosts[host] = state
        return state

    def _wait_s(self, state: _Host) -> float:
        alone = state.pauses > 0  # after a pause one request tries before the others follow
        if state.running >= (1 if alone else state.limits.connections):
            return math.inf
        return max(self._pause_s(state), self._token_s(state))

    def _pause_s(self, state: _Host) -> float:
        return max(0.0, state.not_before - self._clock())

    def _token_s(self, state: _Host) -> float:
        now = self._clock()
        grown = (now - state.filled) * state.limits.requests_per_s
        state.tokens = min(float(state.limits.burst), state.tokens + grown)
        state.filled = now
        return max(0.0, (1.0 - state.tokens) / state.limits.requests_per_s)

    def _learn(self, host: str, state: _Host, error: ClipRejectedError | None) -> None:
        if error is None or error.reason not in _REFUSALS:
            state.failures = state.pauses = 0
            return
        now = self._clock()
        resting = now < state.not_before
        state.failures += 1
        if error.wait_s is not None:
            state.not_before = max(state.not_before, now + error.wait_s)
            if error.wait_s > self._params.max_wait_s:
                state.given_up = f"it asks to wait longer than max_wait_s: {error}"
        if resting and state.pauses:
            return  # the answer to a request that went out before the pause
        row = state.failures >= self._params.breaker_failures
        if row or state.pauses or error.reason == "bot_check":
            self._pause(host, state, error)

    def _pause(self, host: str, state: _Host, error: ClipRejectedError) -> None:
        state.pauses += 1
        if state.pauses > self._params.breaker_pauses:
            state.given_up = f"{error.reason} again after every pause, at last: {error}"
            logger.warning("%s: %s", host, state.given_up)
            return
        wait_s = self._params.breaker_pause_s * 2.0 ** (state.pauses - 1)
        state.not_before = max(state.not_before, self._clock() + wait_s)
        logger.warning("%s rests for %.0f s: %s: %s", host, wait_s, error.reason, error)

    def _forget(self) -> None:
        """Drop hosts of which there is nothing to remember."""
        for name, state in list(self._hosts.items()):
            if not (state.running or state.failures or state.given_up):
                del self._hosts[name]
