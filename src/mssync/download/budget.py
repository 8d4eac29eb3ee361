"""What a run may spend: bytes, seconds of media, disk."""

import logging
import shutil
from pathlib import Path
from threading import Lock

from mssync.errors import ClipRejectedError
from mssync.params import DownloadVideos

logger = logging.getLogger(__name__)

_LOOK_BYTES = 32 << 20  # the disk is looked at again after so many bytes


class Budget:
    """Counts what all downloads of a run receive, and stops them before it is too much.

    Args:
        params: The stage's section.
        folder: Where media are written; it exists.
        whole: The budget that this one is an item of.
    """

    def __init__(
        self, params: DownloadVideos, folder: Path, *, whole: "Budget | None" = None
    ) -> None:
        self._whole = whole
        self._params = params
        self._folder = folder
        self._lock = Lock()
        self._bytes = 0
        self._media_s = 0.0
        self._looked_at = -_LOOK_BYTES
        self._spent = ""

    def item(self) -> "Budget":
        """A budget that draws on this one, and counts apart what one item receives."""
        return Budget(self._params, self._folder, whole=self)

    @property
    def received(self) -> int:
        """Bytes so far."""
        return self._bytes

    @property
    def left(self) -> int:
        """Bytes that may still come in this run, at least 1; 0: no limit."""
        if self._whole:
            return self._whole.left
        limit = self._params.run_bytes
        return max(1, limit - self._bytes) if limit else 0

    @property
    def spent(self) -> ClipRejectedError | None:
        """Why nothing more is begun; None while there is something left."""
        if self._whole:
            return self._whole.spent
        if not self._spent:
            return None
        reason, _, message = self._spent.partition(" ")
        return ClipRejectedError(reason, message)

    def expect(self, size: int) -> None:
        """Ask before `size` bytes are received; negative where the size is not known.

        Raises:
            ClipRejectedError: `too_large`, `disk` or `budget`.
        """
        if self._whole:
            self._whole.expect(size)
            return
        self._check_size(size)
        self._check_disk(max(size, 0))
        self._check_spent(max(size, 0))

    def receive(self, count: int, *, total: int) -> None:
        """Account for `count` bytes that came, of a file that now has `total`.

        Raises:
            ClipRejectedError: `too_large`, `disk` or `budget`.
        """
        with self._lock:
            self._bytes += count
            look = self._bytes - self._looked_at >= _LOOK_BYTES
            if look:
                self._looked_at = self._bytes
        if self._whole:
            self._whole.receive(count, total=total)
            return
        self._check_size(total)
        if look:
            self._check_disk(0)
        self._check_spent(0)

    def stop(self) -> None:
        """Let nothing more come: the run ends early."""
        with self._lock:
            self._spend("budget", "the run was stopped")

    def keep(self, media_s: float) -> None:
        """Account for media that were fetched; the item that crosses the limit is kept."""
        limit_s = self._params.run_media_s
        with self._lock:
            self._media_s += media_s
            if limit_s and self._media_s >= limit_s:
                self._spend("budget", f"the run has fetched {limit_s:g} s of media (run_media_s)")

    def _check_size(self, size: int) -> None:
        if size > self._params.max_bytes:
            raise ClipRejectedError(
                "too_large", f"more than {self._params.max_bytes} bytes (max_bytes)"
            )

    def _check_disk(self, size: int) -> None:
        if shutil.disk_usage(self._folder).free - size < self._params.min_free_bytes:
            message = (
                f"less than {self._params.min_free_bytes} bytes would be left (min_free_bytes)"
            )
            if not size:
                self._spend("disk", message)
            raise ClipRejectedError("disk", message)

    def _check_spent(self, size: int) -> None:
        limit = self._params.run_bytes
        if limit and self._bytes + size > limit:
            message = f"the run may fetch {limit} bytes (run_bytes)"
            if self._bytes >= limit:
                self._spend("budget", message)
            raise ClipRejectedError("budget", message)
        if self.spent:
            raise self.spent

    def _spend(self, reason: str, message: str) -> None:
        if not self._spent:
            logger.warning("nothing more is fetched: %s", message)
            self._spent = f"{reason} {message}"
