"""Parts: a folder of Parquet files, one row per clip, that grows and is never written twice.

Every part carries the key of what made it (parameters and version of the code). Before a stage
works it drops what no longer applies, so that the folder is a function of the stage's inputs;
finished clips wait beside it, in `<folder>.unfinished/`, until they make up a part, so that a
killed stage loses none.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mssync import records
from mssync.records import Row


class Parts:
    """The parts in one folder.

    Args:
        folder: Where they are; created.
        schema: Columns, among them `clip_id` and `sha256`.
        key: What made them: another key, or another schema, makes them worthless.
        clips_per_part: Most rows of a part.
    """

    def __init__(
        self,
        folder: Path,
        schema: Any,  # noqa: ANN401 - pyarrow is untyped
        *,
        key: str,
        clips_per_part: int,
    ) -> None:
        self._folder = folder
        self._waiting = folder.with_name(f"{folder.name}.unfinished")
        self._schema = schema
        self._key = records.digest(key, schema.to_string())
        self._clips_per_part = clips_per_part
        for created in (self._folder, self._waiting):
            created.mkdir(parents=True, exist_ok=True)

    def keep_only(self, wanted: Mapping[str, str]) -> set[str]:
        """Drop what no longer applies.

        Args:
            wanted: SHA-256 of the media by clip id.

        Returns:
            Ids of the clips that are done.
        """
        done = set[str]()
        for path in [*self._files(self._folder), *self._files(self._waiting)]:
            if not self._is_ours(path):
                path.unlink()
                continue
            rows = records.read(path, None)
            good = [
                row
                for row in rows
                if wanted.get(row["clip_id"]) == row["sha256"] and row["clip_id"] not in done
            ]
            done |= {row["clip_id"] for row in good}
            if len(good) < len(rows):
                path.unlink()
                if good:
                    self._write(path.parent, good)
        return done

    def add(self, row: Row) -> None:
        """Keep a finished clip."""
        self._write(self._waiting, [row])
        waiting = self._files(self._waiting)
        if len(waiting) >= self._clips_per_part:
            self._merge(waiting, whole_parts=True)

    def close(self) -> None:
        """Make the last part of what is waiting."""
        self._merge(self._files(self._waiting), whole_parts=False)
        shutil.rmtree(self._waiting)

    def _merge(self, files: list[Path], *, whole_parts: bool) -> None:
        """Make parts of what is waiting, in the order of the clips: after a kill it may be much."""
        waiting = [(row, path) for path in files for row in records.read(path, None)]
        waiting.sort(key=lambda item: str(item[0]["clip_id"]))
        for start in range(0, len(waiting), self._clips_per_part):
            group = waiting[start : start + self._clips_per_part]
            if whole_parts and len(group) < self._clips_per_part:
                return
            self._write(self._folder, [row for row, _ in group])
            for path in {path for _, path in group}:
                path.unlink()

    def _write(self, folder: Path, rows: list[Row]) -> None:
        name = records.digest(sorted(f"{row['clip_id']} {row['sha256']}" for row in rows))[:16]
        path = folder / f"part-{name}.parquet"
        records.write(path, rows, self._schema, metadata={"key": self._key})

    def _is_ours(self, path: Path) -> bool:
        return records.read_metadata(path).get("key") == self._key

    @staticmethod
    def _files(folder: Path) -> list[Path]:
        return sorted(folder.glob("part-*.parquet"))


def read_parts(
    folder: Path,
    schema: Any,  # noqa: ANN401 - pyarrow is untyped
    *,
    columns: Sequence[str] | None = None,
) -> Iterator[Row]:
    """Rows of all parts in a folder, sorted by part name.

    Args:
        folder: Where the parts are.
        schema: The columns they must have.
        columns: Those to read; None reads all.

    Raises:
        InputError: If a part is unreadable or of other columns.
    """
    for path in sorted(folder.glob("part-*.parquet")):
        yield from records.read(path, schema, columns=columns)
