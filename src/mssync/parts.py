"""Parts: a folder of Parquet files, one row per clip, that grows and is never written twice.

Every part carries the key of what made it (parameters and version of the code). Before a stage
works it drops what no longer applies, so that the folder is a function of the stage's inputs;
finished clips wait beside it, in `<folder>.unfinished/`, until they make up a part, so that a
killed stage loses none.
"""

import shutil
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mssync import records
from mssync.errors import InputError
from mssync.records import Row

PATTERN = "part-*.parquet"  # names of the files


class Parts:
    """The parts in one folder.

    Args:
        folder: Where they are; created.
        schema: Columns, among them `clip_id`, `sha256` and `content`.
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
        """Keep a finished clip; the column `content` is filled in."""
        self._write(self._waiting, [row | {"content": records.row_digest(row, self._schema)}])
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
        write_part(folder, rows, self._schema, self._key)

    def _is_ours(self, path: Path) -> bool:
        return records.read_metadata(path).get("key") == self._key

    @staticmethod
    def _files(folder: Path) -> list[Path]:
        return sorted(folder.glob(PATTERN))


def write_part(
    folder: Path,
    rows: Sequence[Row],
    schema: Any,  # noqa: ANN401 - pyarrow is untyped
    key: str,
) -> str:
    """Write rows as a part; its name, which tells what is in it."""
    identity = sorted(f"{row['clip_id']} {row['content']}" for row in rows)
    name = PATTERN.replace("*", records.digest(key, identity)[:16])
    records.write(folder / name, rows, schema, metadata={"key": key})
    return name


def replace_without(
    folder: Path,
    clips: Collection[str],
    schema: Any,  # noqa: ANN401 - pyarrow is untyped
) -> dict[str, str]:
    """Write the parts that hold some clips once more without them; the old ones stay beside.

    Args:
        folder: Where the parts are.
        clips: To leave out.
        schema: The columns they must have.

    Returns:
        Name of the new part by that of the old one; empty where nothing is left of it.
    """
    replaced = dict[str, str]()
    for path in sorted(folder.glob(PATTERN)):
        ids = [row["clip_id"] for row in records.stream(path, schema, columns=["clip_id"])]
        if not set(ids) & set(clips):
            continue
        rows = [row for row in records.stream(path, schema) if row["clip_id"] not in clips]
        key = records.read_metadata(path)["key"]
        replaced[path.name] = write_part(folder, rows, schema, key) if rows else ""
    return replaced


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
    for path in sorted(folder.glob(PATTERN)):
        yield from records.read(path, schema, columns=columns)


class Place(NamedTuple):
    """Where the row of a clip is.

    Attributes:
        part: Name of the part.
        content: Digest of the row.
    """

    part: str
    content: str


def places(folder: Path, schema: Any) -> dict[str, Place]:  # noqa: ANN401 - pyarrow is untyped
    """The place of every clip in a folder of parts, by clip id.

    Raises:
        InputError: If a part is unreadable or of other columns, or a clip is there twice.
    """
    found = dict[str, Place]()
    for path in sorted(folder.glob(PATTERN)):
        for row in records.stream(path, schema, columns=["clip_id", "content"]):
            place = Place(path.name, row["content"])
            before = found.setdefault(row["clip_id"], place)
            if before is not place:
                raise InputError(
                    f"{row['clip_id']} is in {before.part} and in {path.name} of {folder}: if a "
                    "takedown was stopped, call it again, else run the stage that writes them again"
                )
    return found


class PartReader:
    """Rows of clips by their place; the parts that were read last stay in memory.

    Reading in the order in which clips were added reads every part once.

    Args:
        folder: Where the parts are.
        schema: The columns they must have.
        columns: Those to read, `clip_id` and `content` among them.
        parts_in_memory: Most parts held.
    """

    def __init__(
        self,
        folder: Path,
        schema: Any,  # noqa: ANN401 - pyarrow is untyped
        *,
        columns: Sequence[str],
        parts_in_memory: int = 4,
    ) -> None:
        self._folder = folder
        self._schema = schema
        self._columns = columns
        self._most = parts_in_memory
        self._held = OrderedDict[str, dict[str, Row]]()

    def row(self, clip_id: str, place: Place) -> Row:
        """The row of a clip.

        Raises:
            InputError: If it is not where it should be.
        """
        rows = self._held.get(place.part)
        if rows is None:
            while len(self._held) >= self._most:
                self._held.popitem(last=False)
            read = records.stream(
                self._folder / place.part, self._schema, columns=list(self._columns)
            )
            rows = self._held[place.part] = {row["clip_id"]: row for row in read}
        self._held.move_to_end(place.part)
        row = rows.get(clip_id)
        if row is None or row["content"] != place.content:
            raise InputError(
                f"{self._folder / place.part} does not hold {clip_id} as the dataset was built "
                "from it: run build-dataset again"
            )
        return row
