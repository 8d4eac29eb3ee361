"""Who does what next: jobs for a crew of threads, as fast as hosts and budget allow."""

import heapq
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import count, islice

from mssync import log
from mssync.download.budget import Budget
from mssync.download.governor import Governor
from mssync.download.state import Job, Result, State
from mssync.errors import ClipRejectedError
from mssync.ledger import Attempt
from mssync.lists.sources import Source
from mssync.reasons import DOWNLOAD

logger = logging.getLogger(__name__)

_ROWS = 200  # of the list, put down between two looks at what is finished
_REPORT_S = 10.0
_LONGEST_REST_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """What a job came to.

    Attributes:
        results: By clip, for every clip of the job.
        errors: By clip, what went wrong when the source was asked for; a clip is kept all the
            same where the store has what was fetched before.
        asked: Whether the host was asked at all.
        started: When it was begun, in seconds since 1970.
        duration_s: How long it took.
        received: Bytes that came.
    """

    results: dict[str, Result]
    errors: dict[str, ClipRejectedError]
    asked: bool
    started: float
    duration_s: float
    received: int


class Crew:
    """Works a list off.

    Args:
        state: Where the list and the decisions are.
        governor: Says when hosts may be asked.
        budget: Says when nothing more may be begun.
        bring: Does one job, in a thread; what it raises ends the run.
        refuse: Says which rows must not be asked for.
        connections: Jobs at a time.
        attempts: Tries of a location in a run.
        run: Name of the run, for its attempts.
    """

    def __init__(
        self,
        state: State,
        governor: Governor,
        budget: Budget,
        *,
        bring: Callable[[Job], Outcome],
        refuse: Callable[[Source], Result | None],
        connections: int,
        attempts: int,
        run: str,
    ) -> None:
        self._state = state
        self._governor = governor
        self._budget = budget
        self._bring = bring
        self._refuse = refuse
        self._connections = connections
        self._attempts = attempts
        self._run = run
        self._running = dict[Future[Outcome], Job]()
        self._due = list[tuple[float, int, str]]()  # hosts by the time they may be asked next
        self._turn = count()
        self._queued = set[str]()
        self._done = 0

    def work(self, rows: Iterable[Source]) -> None:
        """Put the list down and do what it asks for, both at once, until nothing waits.

        Raises:
            InputError: If the list is of the wrong form; what was done by then is kept.
        """
        remaining: Iterator[Source] | None = iter(rows)
        reported = time.monotonic()
        pool = ThreadPoolExecutor(self._connections, thread_name_prefix="download")
        try:
            while remaining or self._running or self._state.waiting:
                if remaining:
                    remaining = self._read(remaining)
                rest_s = self._dispatch(pool)
                self._collect(0.0 if remaining else rest_s)
                if time.monotonic() - reported > _REPORT_S:
                    reported = time.monotonic()
                    self._report(reading=bool(remaining))
        except BaseException as error:
            self._budget.stop()  # parts that are under way are left to go on from
            if isinstance(error, KeyboardInterrupt):
                logger.warning("stopped: the same command goes on from here")
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _read(self, rows: Iterator[Source]) -> Iterator[Source] | None:
        batch = list(islice(rows, _ROWS))
        if batch:
            self._state.add(batch, refuse=self._refuse)
            return rows
        self._state.check_list()
        return None

    def _dispatch(self, pool: ThreadPoolExecutor) -> float:
        """Start what may be started; seconds until there may be more."""
        spent = self._budget.spent
        if spent and self._state.waiting:
            self._state.give_up(Result(spent.reason, str(spent)))
        for host in self._state.stirred():
            self._queue(host, 0.0)
        while self._due and len(self._running) < self._connections:
            now = time.monotonic()
            if self._due[0][0] > now:
                return min(self._due[0][0] - now, _LONGEST_REST_S)
            _, _, host = heapq.heappop(self._due)
            self._queued.discard(host)
            self._start(host, pool, now)
        return _LONGEST_REST_S

    def _queue(self, host: str, due: float) -> None:
        if host not in self._queued:
            self._queued.add(host)
            heapq.heappush(self._due, (due, next(self._turn), host))

    def _start(self, host: str, pool: ThreadPoolExecutor, now: float) -> None:
        given_up = self._governor.given_up(host)
        if given_up:
            self._state.give_up(Result(given_up.reason, log.redact(str(given_up))), host=host)
            return
        first = self._state.ready_at(host)
        if first is None:
            return  # comes back when what runs of it is finished, or more is listed
        wait_s = max(self._governor.ready_in(host), first - now)
        if wait_s == float("inf"):
            return  # comes back when a connection of it is free
        if wait_s > 0:
            self._queue(host, now + wait_s)
            return
        job = self._state.take(host)
        self._governor.start(host)
        self._running[pool.submit(self._bring, job)] = job
        self._queue(host, now)

    def _collect(self, rest_s: float) -> None:
        if not self._running:
            time.sleep(min(rest_s, 0.05) if self._state.waiting else 0.0)
            return
        done, _ = wait(self._running, timeout=rest_s, return_when=FIRST_COMPLETED)
        failure: BaseException | None = None
        for future in done:
            job = self._running.pop(future)
            if error := future.exception():
                logger.error("%s ends the run", job.location)
                failure = error
                continue
            outcome = future.result()
            refusal = next(iter(outcome.errors.values()), None)
            self._governor.finish(job.host, refusal, asked=outcome.asked)
            self._settle(job, outcome)
            self._queue(job.host, 0.0)
        if failure:
            raise failure

    def _settle(self, job: Job, outcome: Outcome) -> None:
        again = {
            clip_id
            for clip_id, result in outcome.results.items()
            if result.reason
            and DOWNLOAD[result.reason].again == "now"
            and job.tries < self._attempts
            and not self._budget.spent
        }
        final = {
            clip_id: result for clip_id, result in outcome.results.items() if clip_id not in again
        }
        received = self._state.received(job) + outcome.received
        told = final | {
            clip_id: Result(error.reason, log.redact(str(error)))
            for clip_id, error in outcome.errors.items()
            if clip_id in final and final[clip_id].kept
        }
        attempts = [
            Attempt(
                clip_id=clip_id,
                started=outcome.started,
                duration_s=outcome.duration_s,
                outcome=result.reason or "done",
                detail=result.detail,
                run=self._run,
                tries=job.tries,
                bytes=received,
                tool=result.origin.provenance.tool if result.origin else "",
            )
            for clip_id, result in told.items()
            if result != job.before.get(clip_id)  # a local file that did not change
        ]
        self._state.finish(job, final, attempts)
        self._done += len(final)
        if again:
            not_before = time.monotonic() + self._governor.backoff_s(job.tries)
            self._state.retry(job, not_before=not_before, received=outcome.received)

    def _report(self, *, reading: bool) -> None:
        logger.info(
            "%d clips done, %d sources wait%s, %d under way, %.0f MB received",
            self._done,
            self._state.waiting,
            " (the list is still being read)" if reading else "",
            len(self._running),
            self._budget.received / 1e6,
        )
