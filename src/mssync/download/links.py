"""How many links of a list still lead somewhere, run after run?"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mssync.ledger import Attempt

# What says that the source cannot be had any more by who asks, and what says nothing yet. Any
# other outcome, were it a file that is no video, is an answer: the link is alive.
DEAD = frozenset({"gone", "private", "geo", "age", "drm", "auth", "forbidden", "not_found"})
UNSURE = frozenset(
    {
        "connection", "timeout", "server_error", "rate_limit", "bot_check", "site", "live",
        "unreadable", "budget", "disk", "host_paused", "refused", "redirects",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Census:
    """The links of a list at the end of a run, each as it answered last.

    Attributes:
        run: Start of the run, ISO 8601 in UTC.
        asked: Clips that were tried in it.
        alive: Clips whose source answered.
        unsure: Clips whose source may answer another time.
        dead: Clips whose source is lost, by reason.
    """

    run: str
    asked: int
    alive: int
    unsure: int
    dead: dict[str, int]

    @property
    def known(self) -> int:
        """Clips that were ever tried."""
        return self.alive + self.unsure + sum(self.dead.values())


def decay(attempts: Iterable[Attempt], listed: Iterable[str]) -> Iterator[Census]:
    """One census for each run.

    Args:
        attempts: Of the download stage, in the order of the ledger.
        listed: Ids of the clips that are on the list now; others are left out.
    """
    clips = set(listed)
    last = dict[str, str]()
    run, asked = "", set[str]()
    for attempt in attempts:
        if attempt.run != run and asked:
            yield _census(run, asked, last)
            asked = set()
        run = attempt.run
        if attempt.clip_id in clips:
            asked.add(attempt.clip_id)
            if attempt.outcome not in UNSURE or attempt.clip_id not in last:
                last[attempt.clip_id] = attempt.outcome
    if asked:
        yield _census(run, asked, last)


def _census(run: str, asked: set[str], last: dict[str, str]) -> Census:
    states = Counter(last.values())
    dead = Counter({reason: count for reason, count in states.items() if reason in DEAD})
    unsure = sum(count for reason, count in states.items() if reason in UNSURE)
    alive = states.total() - unsure - dead.total()
    return Census(run, len(asked), alive, unsure, dict(dead.most_common()))
