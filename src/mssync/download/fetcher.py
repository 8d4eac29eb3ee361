"""One location into the store, and its clips out of it."""

import errno
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

import httpx

from mssync.download import files, objects, sites, web
from mssync.download.access import Access
from mssync.download.budget import Budget
from mssync.download.crew import Outcome
from mssync.download.governor import Governor
from mssync.download.links import DEAD, UNSURE
from mssync.download.partial import scratch
from mssync.download.state import Job, Result
from mssync.download.takedown import Tombstones
from mssync.errors import ClipRejectedError, MsSyncError, ToolError
from mssync.lists.sources import Source
from mssync.media import ffmpeg
from mssync.media.probe import Probe, probe
from mssync.media.sandbox import SandboxPool
from mssync.media.store import MediaStore, Origin, digest
from mssync.params import DownloadVideos
from mssync.timing import milliseconds

logger = logging.getLogger(__name__)

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_REMEMBERED = 10_000  # probes of contents, for those that come twice
_CUT_S_PER_S = 20.0  # most seconds of work on a second of video


class Fetcher:
    """Does jobs; safe to be used by many threads.

    Args:
        store: Where media go.
        params: The stage's section.
        access: Where connections may go, and with what.
        governor: Is asked before a redirect to another host is followed.
        budget: Counts what is received.
        tombstones: What must not come back.
        client: Connections of HTTP(S), which go only where `access` allows.
        sandboxes: Processes in which files of strangers are opened.
        browsers: Processes in which yt-dlp runs.
    """

    def __init__(
        self,
        store: MediaStore,
        params: DownloadVideos,
        *,
        access: Access,
        governor: Governor,
        budget: Budget,
        tombstones: Tombstones,
        client: httpx.Client,
        sandboxes: SandboxPool,
        browsers: SandboxPool,
    ) -> None:
        self._store = store
        self._params = params
        self._access = access
        self._governor = governor
        self._budget = budget
        self._tombstones = tombstones
        self._client = client
        self._sandboxes = sandboxes
        self._browsers = browsers
        self._probes = OrderedDict[str, Probe | ClipRejectedError]()
        self._lock = Lock()

    def bring(self, job: Job) -> Outcome:
        """Fetch a location once, and make its clips.

        A mistake of this program costs the clip and is told with its traceback; the others go on.

        Raises:
            MsSyncError: If something is wrong beyond this location.
            OSError: The same.
        """
        started = time.time()
        try:
            return self._bring(job)
        except (MsSyncError, OSError):
            raise
        except Exception as error:
            logger.exception("%s: a mistake of this program", job.location)
            failed = Result("bug", f"{type(error).__name__}: {error}")
            results = dict.fromkeys(_ids(job.clips), failed)
            return Outcome(results, {}, True, started, time.time() - started, 0)

    def _bring(self, job: Job) -> Outcome:
        started, begun = time.time(), time.perf_counter()
        budget = self._budget.item()
        wanted = [clip for clip in job.clips if not _is_too_long(clip, self._params)]
        found = dict(zip(_ids(wanted), self._fetch(job, wanted, budget), strict=True))
        results = {
            clip.clip_id: self._make(clip, found.get(clip.clip_id), job) for clip in job.clips
        }
        if budget.received:
            kept = (result for result in results.values() if result.kept)
            self._budget.keep(sum(result.scores["duration_s"] for result in kept))
        return Outcome(
            results,
            {clip_id: one.error for clip_id, one in found.items() if one.error},
            any(one.asked for one in found.values()),
            started,
            time.perf_counter() - begun,
            budget.received,
        )

    def _fetch(self, job: Job, wanted: Sequence[Source], budget: Budget) -> Sequence["_Found"]:
        """What is found of each clip's source."""
        try:
            if wanted and job.kind == "site":
                return self._fetch_sections(job.location, wanted, budget)
            return [self._fetch_whole(job, budget)] * len(wanted) if wanted else []
        except ClipRejectedError as error:
            return [_Found(error=error)] * len(wanted)
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            full = ClipRejectedError("disk", f"the disk of the media store is full: {error}")
            return [_Found(error=full)] * len(wanted)

    def _fetch_whole(self, job: Job, budget: Budget) -> "_Found":
        if job.kind == "file":
            path = Path(job.location)
            return _Found(files.take(path, self._store, params=self._params, budget=budget))
        key = web.key(job.location) if job.kind == "web" else objects.key(job.location)
        known = self._store.recall(key)
        if known and not self._params.revalidate:
            return _Found(known, asked=False)
        try:
            return _Found(self._ask(job, budget, known))
        except ClipRejectedError as error:
            if known and error.reason in DEAD | UNSURE:
                return _Found(known, error)  # the link died, what it led to did not
            raise

    def _ask(self, job: Job, budget: Budget, known: Origin | None) -> Origin:
        if job.kind == "object":
            return objects.fetch(
                job.location,
                self._store,
                params=self._params,
                budget=budget,
                secrets=self._access.secrets,
                known=known,
            )
        return web.fetch(
            job.location,
            self._store,
            client=self._client,
            params=self._params,
            policy=self._access.policy,
            secrets=self._access.secrets,
            budget=budget,
            admit=self._governor.admit,
            known=known,
        )

    def _fetch_sections(
        self, url: str, wanted: Sequence[Source], budget: Budget
    ) -> Sequence["_Found"]:
        spans = [(clip.start_s, clip.end_s) for clip in wanted]
        keys = [sites.section_key(url, span, self._params) for span in spans]
        found = [self._store.recall(key) for key in keys]
        missing = [span for span, known in zip(spans, found, strict=True) if known is None]
        fetched = iter(
            sites.fetch_sections(
                url,
                missing,
                self._store,
                params=self._params,
                secrets=self._access.secrets,
                policy=self._access.policy,
                budget=budget,
                sandbox=self._browsers,
                cutter=self._sandboxes,
            )
            if missing
            else []
        )
        return [_Found(known, asked=False) if known else _found(next(fetched)) for known in found]

    def _make(self, clip: Source, found: "_Found | None", job: Job) -> Result:
        """A clip out of what was fetched for it."""
        try:
            if found is None:
                raise _too_long(clip, self._params)
            if found.origin is None:
                assert found.error is not None
                raise found.error
            return self._cut_and_probe(clip, found.origin, job)
        except ClipRejectedError as error:
            return Result(error.reason, self._access.secrets.redact(str(error)))

    def _cut_and_probe(self, clip: Source, origin: Origin, job: Job) -> Result:
        before = job.before.get(clip.clip_id)
        self._check_takedown(origin, before)
        if before and before.origin == origin and before.sha256 in self._store:
            return before
        # what a site sent is the section itself
        start_s, end_s = (0.0, None) if job.kind == "site" else (clip.start_s, clip.end_s)
        content = origin.sha256
        if start_s or end_s is not None or clip.crop:
            content = self._cut(origin, start_s, end_s, clip.crop)
        found = self._probe_cut(content) if content != origin.sha256 else self._probe(content)
        duration_s = found.clock.duration_s
        if duration_s > self._params.max_duration_s:
            raise _too_long(clip, self._params, duration_s)
        scores = {
            "bytes": float(self._store.path(content).stat().st_size),
            "duration_s": duration_s,
            "fps_hz": found.clock.fps_hz,
            "width_px": float(found.width_px),
            "height_px": float(found.height_px),
        }
        return Result(sha256=content, scores=scores, origin=origin)

    def _check_takedown(self, origin: Origin, before: Result | None) -> None:
        reason = self._tombstones.match_content(origin.sha256)
        if reason is None and origin.provenance.uploader:
            reason = self._tombstones.match_uploader(origin.provenance.uploader)
        if reason is not None:
            for content in (origin.sha256, before.sha256 if before else ""):
                self._store.discard(content)
            raise ClipRejectedError("taken_down", f"what came was taken down: {reason}")

    def _probe_cut(self, content: str) -> Probe:
        try:
            return self._probe(content)
        except ClipRejectedError as error:
            if error.reason != "no_video":
                raise
            raise ClipRejectedError("empty_cut", "there is no frame in this part") from error

    def _probe(self, content: str) -> Probe:
        """Probe content once, though it be asked for again."""
        with self._lock:
            found = self._probes.get(content)
        if found is None:
            try:
                found = self._sandboxes.call(
                    partial(probe, max_pixels=self._params.max_pixels),
                    self._store.path(content),
                    wall_s=self._params.probe_s,
                )
            except ClipRejectedError as error:
                found = error
            with self._lock:
                self._probes[content] = found
                if len(self._probes) > _REMEMBERED:
                    self._probes.popitem(last=False)
        if isinstance(found, ClipRejectedError):
            raise found
        return found

    def _cut(
        self, origin: Origin, start_s: float, end_s: float | None, crop: ffmpeg.Crop | None
    ) -> str:
        span = f"{milliseconds(start_s)}-{end_s and milliseconds(end_s)}"
        key = f"cut:{origin.sha256}:{span}:{crop or ''}:{sorted(ffmpeg.CUT_OPTIONS.items())}"
        known = self._store.recall(key)
        if known:
            return known.sha256
        length_s = self._probe(origin.sha256).clock.duration_s
        if start_s >= length_s:
            raise ClipRejectedError(
                "empty_cut", f"the cut starts at {start_s:g} s, the source ends at {length_s:g} s"
            )
        end_s = length_s if end_s is None else min(end_s, length_s)
        wall_s = self._params.probe_s + _CUT_S_PER_S * (end_s - start_s)
        with scratch(self._store, key, patience_s=wall_s) as target:
            known = self._store.recall(key)  # another process may have been quicker
            if known:
                return known.sha256
            cut = partial(
                ffmpeg.cut,
                start_s=start_s,
                end_s=end_s,
                crop=crop,
                max_pixels=self._params.max_pixels,
                max_bytes=self._params.max_bytes,
            )
            source = self._store.path(origin.sha256)
            try:
                self._sandboxes.call(cut, source, target, wall_s=wall_s, cpu_s=2 * wall_s)
            except ToolError as error:
                raise ClipRejectedError("corrupt", f"cannot be cut: {error}") from error
            made = Origin(digest(target), target.stat().st_size, origin.sha256)
            self._store.remember(key, made)
            return self._store.adopt(target, sha256=made.sha256)


@dataclass(frozen=True)
class _Found:
    """What is there of a source: its content, or why it could not be had; both of a dead link."""

    origin: Origin | None = None
    error: ClipRejectedError | None = None
    asked: bool = True


def _found(fetched: Origin | ClipRejectedError) -> _Found:
    return _Found(error=fetched) if isinstance(fetched, ClipRejectedError) else _Found(fetched)


def _ids(clips: Sequence[Source]) -> list[str]:
    return [clip.clip_id for clip in clips]


def _is_too_long(clip: Source, params: DownloadVideos) -> bool:
    """Whether the list itself says so."""
    return clip.end_s is not None and clip.end_s - clip.start_s > params.max_duration_s


def _too_long(
    clip: Source, params: DownloadVideos, duration_s: float | None = None
) -> ClipRejectedError:
    length_s = (clip.end_s or 0.0) - clip.start_s if duration_s is None else duration_s
    return ClipRejectedError(
        "too_long",
        f"the clip has {length_s:.1f} s, at most {params.max_duration_s:g} s are kept "
        "(download_videos.max_duration_s): give start_s and end_s in the list",
    )
