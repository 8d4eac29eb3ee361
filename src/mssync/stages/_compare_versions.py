"""Versions of the dataset side by side: sizes, speakers, what was left out, and clip by clip."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mssync.data import dataset, history
from mssync.data.history import Version
from mssync.errors import InputError
from mssync.render.gallery import Cell, Page, TextTable
from mssync.timing import FRAME_RATE_HZ

_NAMED_CLIPS = 500


def version(name: str, folder: Path) -> Version | None:
    """The version that is meant; None if it is the name of something else."""
    if not (Path(name) / dataset.METADATA).exists() and not any(folder.glob(f"{name[:16]}*")):
        return None
    return history.find(folder, name)


def page(versions: Sequence[Version]) -> Page:
    """What tells versions apart, each from the first.

    Raises:
        InputError: If one is given twice.
    """
    labels = [version.revision[:12] for version in versions]
    if len(set(labels)) < len(labels):
        raise InputError(f"{', '.join(labels)}: the same version twice; give different ones")
    rows = [list(version.rows()) for version in versions]
    changes = [table for version in versions[1:] for table in _difference(versions[0], version)]
    kept = [sum(1 for row in found if row["split"]) for found in rows]
    return Page(
        title="Versions of the dataset side by side",
        summary=f"{len(versions)} versions, of {', '.join(map(str, kept))} clips that are kept.",
        facts={"First": labels[0], "Compared with it": ", ".join(labels[1:])},
        changes=[
            _statistics(labels, rows),
            _facts(labels, versions),
            _counted(
                "Speakers that are kept", labels, [_speakers(found) for found in rows], "clips"
            ),
            _counted("Left out", labels, [_reasons(found) for found in rows], "clips"),
            *changes,
        ],
    )


def _statistics(labels: Sequence[str], rows: Sequence[Iterable[Mapping[str, Any]]]) -> TextTable:
    counts = dict[str, list[float]]()
    for place, found in enumerate(rows):
        speakers = dict[str, set[str]]()
        for row in found:
            split = row["split"]
            if not split:
                continue
            speakers.setdefault(split, set()).add(row["speaker_id"])
            for name, value in (
                (f"{split}: clips", 1.0),
                (f"{split}: hours", row["frames"] / FRAME_RATE_HZ / 3600),
            ):
                counts.setdefault(name, [0.0] * len(rows))[place] += value
        for split, names in speakers.items():
            counts.setdefault(f"{split}: speakers", [0.0] * len(rows))[place] = len(names)
    return _numbers("Size", "Of each split.", labels, counts)


def changed_cell(value: str | None, first: str | None) -> Cell:
    """A text, coloured where it is another than the first."""
    if value is None:
        return Cell("not there", tone="soft")
    return Cell(value, tone="" if value == first else "good")


def _facts(labels: Sequence[str], versions: Sequence[Version]) -> TextTable:
    names = dict.fromkeys(name for version in versions for name in version.facts)
    rows = []
    for name in names:
        values = [str(version.facts.get(name, "")) for version in versions]
        rows.append([Cell(name), *(changed_cell(value, values[0]) for value in values)])
    return TextTable("Facts", "As build-dataset noted them.", ["", *labels], rows, open=False)


def _speakers(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    return Counter(row["speaker_id"] for row in rows if row["split"])


def _reasons(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    return Counter(row["reason"] for row in rows if row["reason"])


def _counted(
    title: str, labels: Sequence[str], counts: Sequence[Counter[str]], unit: str
) -> TextTable:
    """Only what differs."""
    names = sorted(set().union(*counts))
    differing = {
        name: [float(count[name]) for count in counts]
        for name in names
        if len({count[name] for count in counts}) > 1
    }
    same = len(names) - len(differing)
    text = f"Number of {unit}. {len(differing)} differ, {same} are the same."
    return _numbers(title, text, labels, differing)


def _numbers(
    title: str, explanation: str, labels: Sequence[str], counts: Mapping[str, Sequence[float]]
) -> TextTable:
    """Numbers of the first version, and of each other with its difference."""
    columns = ["", labels[0]]
    for label in labels[1:]:
        columns += [label, "difference"]
    rows = []
    for name, values in counts.items():
        cells = [Cell(name), Cell(f"{values[0]:.4g}", value=values[0])]
        for value in values[1:]:
            difference = value - values[0]
            cells += [
                Cell(f"{value:.4g}", value=value),
                Cell(f"{difference:+.4g}" if difference else "0", value=difference),
            ]
        rows.append(cells)
    return TextTable(title, explanation, columns, rows)


def _difference(before: Version, after: Version) -> list[TextTable]:
    """Clips of two versions that are not the same in both."""
    found = history.diff(before, after)
    groups = {
        "added": found.added,
        "removed": found.removed,
        "decided otherwise": found.decided,
        "of other content": found.changed,
        "moved to another split": found.moved,
    }
    rows = [
        [Cell(entry.clip_id), Cell(kind), Cell(entry.what)]
        for kind, entries in groups.items()
        for entry in entries
    ]
    counted = ", ".join(f"{len(entries)} {kind}" for kind, entries in groups.items())
    more = f" The first {_NAMED_CLIPS} are named." if len(rows) > _NAMED_CLIPS else ""
    return [
        TextTable(
            f"Clips, {before.revision[:12]} → {after.revision[:12]}",
            f"{found.same} as they were, {counted}.{more}",
            ["Clip", "is", "what"],
            rows[:_NAMED_CLIPS],
            wide=True,
        )
    ]
