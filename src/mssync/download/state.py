"""What is still to do, and what was decided: one SQLite file beside the ledger.

It holds the list that a run reads, so that memory does not grow with it, and every decision the
moment it is made, so that a killed run goes on where it was and a later one tries again only what
may have changed. It can be deleted: what was fetched is known to the media store.
"""

import json
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mssync.errors import InputError
from mssync.ledger import SAME_BYTES, Attempt
from mssync.lists.locations import host_of, location_kind
from mssync.lists.sources import Source
from mssync.media.ffmpeg import Crop
from mssync.media.store import Origin, Provenance
from mssync.reasons import DOWNLOAD

logger = logging.getLogger(__name__)

_VERSION = "1"  # raised when rows mean something else; an older file is begun anew

# What failed in the run before goes after what was not asked for, or it would always be first.
_NOT_ASKED = frozenset({"host_paused", "budget", "disk"})
_AFTER_THE_NEW = 0.001

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS locations (
    id INTEGER PRIMARY KEY, location TEXT UNIQUE, kind TEXT, host TEXT,
    waiting INTEGER DEFAULT 0, running INTEGER DEFAULT 0, tries INTEGER DEFAULT 0,
    not_before REAL DEFAULT 0, received INTEGER DEFAULT 0
);
CREATE TABLE IF NOT EXISTS clips (
    clip_id TEXT PRIMARY KEY, location INTEGER, listed INTEGER, source TEXT, speaker_id TEXT,
    split TEXT, decided INTEGER DEFAULT 0, reason TEXT DEFAULT '', detail TEXT DEFAULT '',
    sha256 TEXT DEFAULT '', scores TEXT DEFAULT '{}', origin TEXT DEFAULT ''
);
CREATE TABLE IF NOT EXISTS attempts (
    clip_id TEXT, started REAL, duration_s REAL, outcome TEXT, detail TEXT, run TEXT,
    tries INTEGER, bytes INTEGER, tool TEXT
);
CREATE INDEX IF NOT EXISTS waiting ON locations (host, not_before, id)
    WHERE waiting AND NOT running;
CREATE INDEX IF NOT EXISTS of_location ON clips (location);
CREATE INDEX IF NOT EXISTS contents ON clips (sha256, clip_id) WHERE decided AND reason = '';
CREATE INDEX IF NOT EXISTS pins ON clips (speaker_id, split) WHERE split != '';
"""


@dataclass(frozen=True)
class Result:
    """What became of a clip.

    Attributes:
        reason: Code of the cause of a rejection; empty when the clip is kept.
        detail: One sentence for people.
        sha256: The clip's media.
        scores: What was measured of them.
        origin: What was fetched.
    """

    reason: str = ""
    detail: str = ""
    sha256: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    origin: Origin | None = None

    @property
    def kept(self) -> bool:
        """Whether the clip goes on."""
        return not self.reason


@dataclass(frozen=True)
class Job:
    """One location, and the clips to be made of it.

    Attributes:
        key: Number of the location.
        location: URL or path.
        kind: As `lists.locations.location_kind` says.
        host: As `lists.locations.host_of` says.
        tries: How often it was asked for in this run.
        clips: What is wanted of it.
        before: What earlier runs made of these clips, where they kept them.
    """

    key: int
    location: str
    kind: str
    host: str
    tries: int
    clips: Sequence[Source]
    before: dict[str, Result]


class State:
    """The file; used by one thread of one process at a time.

    Args:
        file: Where it is; made where it is missing.
        key: What decides beside the list: when it changes, every decision is taken anew.
        again: Codes that are tried again though asking again seldom helps.
        present: Whether the store still holds content.
        banned: Whether what was fetched must not be used any more, by its digest and uploader.
        revalidate: Clips that were kept are asked for again.

    Raises:
        InputError: If another process is at work with it.
    """

    def __init__(
        self,
        file: Path,
        *,
        key: str,
        again: Iterable[str] = (),
        present: Callable[[str], bool],
        banned: Callable[[str, str], bool] = lambda _, __: False,
        revalidate: bool = False,
    ) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._present = present
        self._banned = banned
        self._revalidate = revalidate
        self._again = {code for code, reason in DOWNLOAD.items() if reason.again != "never"}
        self._again |= {"taken_down", *again}  # the takedown list may have changed
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise InputError(
                    f"{file} is in use: another download works in this folder; wait for its end"
                ) from error
            if error.sqlite_errorname not in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
                raise
            logger.warning("%s cannot be read (%s) and is begun anew", file, error)
            self._delete()
            self._db = self._open()
        self._waiting = Counter[str]()  # locations that wait, by host
        self._stirred = set[str]()
        self._twice = 0
        self._begin(key)

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._file, timeout=1.0, isolation_level=None)
        db.row_factory = sqlite3.Row
        try:
            # one process alone: then the write-ahead log needs no shared memory, which network
            # file systems do not have. A killed process loses nothing; a machine that goes down
            # may.
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = OFF")
            db.execute("PRAGMA cache_size = -16000")
            db.executescript("BEGIN;" + _TABLES + "COMMIT;")
        except sqlite3.DatabaseError:
            db.close()
            raise
        return db

    def _delete(self) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)

    def _begin(self, key: str) -> None:
        known = dict(self._db.execute("SELECT name, value FROM meta").fetchall())
        if known and known.get("version") != _VERSION:
            self._db.close()
            self._delete()
            self._db = self._open()
            known = {}
        self._run = int(known.get("run", 0)) + 1
        with self._transaction():
            if known.get("key", key) != key:
                self._db.execute("UPDATE clips SET decided = 0, sha256 = ''")
            self._db.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                [("version", _VERSION), ("run", str(self._run)), ("key", key)],
            )
            self._db.execute(
                "UPDATE locations SET waiting = 0, running = 0, tries = 0, received = 0, "
                "not_before = 0"
            )

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # ------------------------------------------------------------------ the list

    def add(self, sources: Iterable[Source], *, refuse: Callable[[Source], Result | None]) -> None:
        """Put rows of the list down; what is decided for good stays decided.

        Args:
            sources: Rows, in the order of the list.
            refuse: Says which must not even be asked for, and why.
        """
        with self._transaction():
            for source in sources:
                self._add(source, refuse(source))

    def _add(self, source: Source, refused: Result | None) -> None:
        row = self._db.execute(
            "SELECT listed, location, decided, reason, sha256, "
            "json_extract(nullif(origin, ''), '$.sha256') AS source_sha256, "
            "json_extract(nullif(origin, ''), '$.provenance.uploader') AS uploader "
            "FROM clips WHERE clip_id = ?",
            (source.clip_id,),
        ).fetchone()
        if row and row["listed"] == self._run:
            self._twice += 1
            if self._twice <= 10:
                logger.warning("%s is listed before", source.clip_id)
            return
        location, kind = self._location(source)
        done = bool(row) and self._is_done(row, location, kind) and refused is None
        self._db.execute(
            "INSERT INTO clips (clip_id, location, listed, source, speaker_id, split) "
            "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (clip_id) DO UPDATE SET "
            "location = excluded.location, listed = excluded.listed, source = excluded.source, "
            "speaker_id = excluded.speaker_id, split = excluded.split, decided = ?",
            (
                source.clip_id,
                location,
                self._run,
                _to_text(source),
                source.speaker_id,
                source.split,
                done,
            ),
        )
        if refused:
            self._decide(source.clip_id, refused)
        elif not done:
            asked = bool(row and row["reason"]) and row["reason"] not in _NOT_ASKED
            self._wait(location, not_before=_AFTER_THE_NEW if asked else 0.0)

    def _location(self, source: Source) -> tuple[int, str]:
        row = self._db.execute(
            "SELECT id, kind FROM locations WHERE location = ?", (source.location,)
        ).fetchone()
        if row:
            return row["id"], row["kind"]
        kind = location_kind(source.location)
        cursor = self._db.execute(
            "INSERT INTO locations (location, kind, host) VALUES (?, ?, ?)",
            (source.location, kind, host_of(source.location)),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid, kind

    def _is_done(self, row: sqlite3.Row, location: int, kind: str) -> bool:
        """Whether a decision of an earlier run stands; a local file is looked at again."""
        if not row["decided"] or kind == "file":
            return False
        if row["reason"]:
            # a failure at another address, under another base, says nothing of this one
            return row["reason"] not in self._again and row["location"] == location
        if self._revalidate:
            return False
        return self._present(row["sha256"]) and not self._banned(
            row["source_sha256"], row["uploader"]
        )

    def _wait(self, location: int, *, not_before: float = 0.0) -> None:
        changed = self._db.execute(
            "UPDATE locations SET waiting = 1, not_before = MAX(not_before, ?) "
            "WHERE id = ? AND NOT waiting RETURNING host",
            (not_before, location),
        ).fetchone()
        if changed:
            self._waiting[changed["host"]] += 1
            self._stirred.add(changed["host"])

    def check_list(self) -> None:
        """Check what only the whole list can tell, when all of it was added.

        Raises:
            InputError: If a speaker is pinned to two splits.
        """
        row = self._db.execute(
            "SELECT speaker_id, MIN(split) AS one, MAX(split) AS other FROM clips "
            "WHERE split != '' AND listed = ? GROUP BY speaker_id HAVING one != other LIMIT 1",
            (self._run,),
        ).fetchone()
        if row:
            raise InputError(
                f"the list pins speaker {row['speaker_id']} to {row['one']} and to "
                f"{row['other']}; a speaker belongs to one split"
            )
        if self._twice:
            logger.warning("%d rows repeat a clip that is listed before", self._twice)

    # ------------------------------------------------------------------ the work

    @property
    def waiting(self) -> int:
        """How many locations wait."""
        return self._waiting.total()

    def stirred(self) -> set[str]:
        """Hosts of which a location has begun to wait since the last call."""
        hosts, self._stirred = self._stirred, set()
        return hosts

    def ready_at(self, host: str) -> float | None:
        """When the first location of a host may be tried; None if none is free to."""
        row = self._db.execute(
            "SELECT MIN(not_before) AS first FROM locations "
            "WHERE host = ? AND waiting AND NOT running",
            (host,),
        ).fetchone()
        return None if row["first"] is None else float(row["first"])

    def take(self, host: str) -> Job:
        """The next location of a host, of which `ready_at` knows one."""
        row = self._db.execute(
            "UPDATE locations SET waiting = 0, running = 1, tries = tries + 1 WHERE id = ("
            "SELECT id FROM locations WHERE host = ? AND waiting AND NOT running "
            "ORDER BY not_before, id LIMIT 1) RETURNING id, location, kind, host, tries",
            (host,),
        ).fetchone()
        self._waiting[host] -= 1
        if not self._waiting[host]:
            del self._waiting[host]
        clips, before = list[Source](), dict[str, Result]()
        for clip in self._db.execute(
            "SELECT * FROM clips WHERE location = ? AND listed = ? AND NOT decided ORDER BY rowid",
            (row["id"], self._run),
        ):
            clips.append(_from_text(clip["source"]))
            if clip["sha256"] and not clip["reason"]:
                before[clip["clip_id"]] = _result(clip)
        return Job(
            row["id"], row["location"], row["kind"], row["host"], row["tries"], clips, before
        )

    def finish(self, job: Job, results: dict[str, Result], attempts: Iterable[Attempt]) -> None:
        """Put down what became of clips, and the attempts, one for each."""
        with self._transaction():
            for clip_id, result in results.items():
                self._decide(clip_id, result)
            self._db.executemany(
                "INSERT INTO attempts VALUES (:clip_id, :started, :duration_s, :outcome, :detail, "
                ":run, :tries, :bytes, :tool)",
                [vars(attempt) for attempt in attempts],
            )
            row = self._db.execute(
                "UPDATE locations SET running = 0 WHERE id = ? RETURNING waiting", (job.key,)
            ).fetchone()
        if row["waiting"]:
            self._stirred.add(job.host)

    def retry(self, job: Job, *, not_before: float, received: int) -> None:
        """Let a location wait for another try, which it has just been finished from."""
        self._db.execute(
            "UPDATE locations SET received = received + ?, not_before = ? WHERE id = ?",
            (received, not_before, job.key),
        )
        self._wait(job.key)

    def received(self, job: Job) -> int:
        """Bytes that earlier tries of this run received."""
        row = self._db.execute("SELECT received FROM locations WHERE id = ?", (job.key,)).fetchone()
        return int(row["received"])

    def give_up(self, result: Result, *, host: str | None = None) -> None:
        """Decide everything that waits, of one host or of all."""
        chosen = "waiting AND NOT running" + (" AND host = :host" if host is not None else "")
        with self._transaction():
            self._db.execute(
                "UPDATE clips SET decided = 1, reason = :reason, detail = :detail, sha256 = '', "
                "scores = '{}', origin = '' WHERE NOT decided AND listed = :run AND location IN "
                f"(SELECT id FROM locations WHERE {chosen})",
                {"reason": result.reason, "detail": result.detail, "run": self._run, "host": host},
            )
            self._db.execute(
                f"UPDATE locations SET waiting = 0 WHERE {chosen}",
                {"host": host},
            )
            left = self._db.execute(
                "SELECT host, COUNT(*) AS count FROM locations WHERE waiting GROUP BY host"
            ).fetchall()
        self._waiting = Counter({row["host"]: row["count"] for row in left})

    def _decide(self, clip_id: str, result: Result) -> None:
        self._db.execute(
            "UPDATE clips SET decided = 1, reason = ?, detail = ?, sha256 = ?, scores = ?, "
            "origin = ? WHERE clip_id = ?",
            (
                result.reason,
                result.detail,
                result.sha256,
                json.dumps(result.scores),
                json.dumps(asdict(result.origin)) if result.origin else "",
                clip_id,
            ),
        )

    # ------------------------------------------------------------------ the outcome

    def outcomes(self) -> Iterator[tuple[Source, Result]]:
        """Every listed clip with what became of it, sorted by clip id.

        Of clips with equal content the first is kept, and the others are duplicates of it. A split
        that one row pins a speaker to stands in all of theirs.
        """
        query = (
            "SELECT *, (SELECT MIN(same.clip_id) FROM clips AS same WHERE same.decided AND "
            "same.reason = '' AND same.sha256 = clips.sha256 AND same.listed = :run) AS first, "
            "(SELECT MAX(pin.split) FROM clips AS pin WHERE pin.split != '' AND "
            "pin.speaker_id = clips.speaker_id AND pin.listed = :run) AS pinned "
            "FROM clips WHERE listed = :run ORDER BY clip_id"
        )
        for row in self._db.execute(query, {"run": self._run}):
            assert row["decided"], row["clip_id"]
            result = _result(row)
            if result.kept and row["first"] != row["clip_id"]:
                result = Result("duplicate", SAME_BYTES + row["first"])
            yield replace(_from_text(row["source"]), split=row["pinned"] or ""), result

    def attempts(self) -> Iterator[Attempt]:
        """Every attempt since the last `end`."""
        for row in self._db.execute("SELECT * FROM attempts ORDER BY rowid"):
            yield Attempt(**dict(row))

    def end(self) -> None:
        """Forget the attempts, which are in the ledger now, and what is listed no more."""
        with self._transaction():
            self._db.execute("DELETE FROM attempts")
            self._db.execute("DELETE FROM clips WHERE listed != ?", (self._run,))
            self._db.execute("DELETE FROM locations WHERE id NOT IN (SELECT location FROM clips)")


class _Transaction:
    """All or nothing, and faster than one by one."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN")

    def __exit__(self, kind: object, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")


def _result(row: sqlite3.Row) -> Result:
    origin = json.loads(row["origin"]) if row["origin"] else None
    if origin:
        origin["provenance"] = Provenance(**origin["provenance"])
    return Result(
        reason=row["reason"],
        detail=row["detail"],
        sha256=row["sha256"],
        scores=json.loads(row["scores"]),
        origin=Origin(**origin) if origin else None,
    )


def _to_text(source: Source) -> str:
    return json.dumps(asdict(source), ensure_ascii=False)


def _from_text(text: str) -> Source:
    fields: dict[str, Any] = json.loads(text)
    if fields["crop"]:
        fields["crop"] = Crop(**fields["crop"])
    return Source(**fields)
