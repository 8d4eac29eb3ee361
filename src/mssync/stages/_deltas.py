"""How far the scores of two runs are apart, and how sure that is.

Where both scored the same sequences, differences are taken sequence by sequence and resampled: what
is hard for both cancels out. Otherwise the intervals of each stand side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mssync.metrics import bootstrap
from mssync.metrics.bootstrap import Estimate
from mssync.points import POINT_SETS, title_of
from mssync.render.gallery import Cell, TextTable
from mssync.render.plots import number

GENERATED = "generated"
CEILING = "ground_truth"
_SYNC = {
    "lse_d": ("LSE-D", "lower"),
    "lse_c": ("LSE-C", "higher"),
    "abs_offset_s": ("Offset, s", "lower"),
}
_MOTION = {
    "rigidity": ("Rigid points, crop sides", "lower"),
    "head_speed_loudness": ("Head speed and loudness", ""),
    "mouth_opening_loudness": ("Mouth opening and loudness", ""),
}
_FRECHET = {"fd_frame": "FD-frame", "fd_time": "t-FD", "fd_motion": "FD-motion"}


@dataclass(frozen=True)
class Scored:
    """What an evaluation wrote about a run's generator.

    Attributes:
        label: What the run is called.
        metrics: `metrics.json`; None where there is none.
        sequences: `sequences.json`; None where there is none.
    """

    label: str
    metrics: Mapping[str, Any] | None
    sequences: Mapping[str, Any] | None

    def found(self, *names: str) -> Mapping[str, Any]:
        """A part of the generator's metrics; empty where it was not measured."""
        part: Any = self.metrics["challenger"]["metrics"] if self.metrics else {}
        for name in names:
            part = part.get(name, {})
        return part if isinstance(part, Mapping) else {}


@dataclass(frozen=True)
class _Row:
    """A metric: its name in `sequences.json`, where it is in `metrics.json`, its label."""

    key: str
    path: tuple[str, ...]
    label: str
    better: str
    field: str = ""  # of the entry, before `value`


def table(scored: Sequence[Scored], *, seed: int, resamples: int) -> TextTable | None:
    """Scores of each run, and the difference of each to the first; None where none was scored.

    Args:
        scored: The runs.
        seed: Draws the resamples.
        resamples: Bootstrap resamples of sequences.
    """
    first = scored[0]
    rows = []
    for row in _rows(scored):
        cells = [Cell(row.label)]
        for run in scored:
            cells.append(_value(run.found(*row.path), row.field))
            if run is not first:
                cells.append(_delta(first, run, row, seed=seed, resamples=resamples))
        rows.append(cells)
    columns = ["Metric", first.label]
    for run in scored[1:]:
        columns += [run.label, "difference"]
    if not rows:
        return None
    return TextTable(
        "Scores",
        f"Of the generators, and how far each is from {first.label}, with 95 % intervals: "
        "paired by sequence where both runs scored the same ones. Coloured where the interval "
        "leaves out 0.",
        columns,
        rows,
    )


def same_judges(one: Scored, other: Scored) -> bool | None:
    """Whether two runs were judged alike: then the ground truth scores the same in both.

    None where that cannot be told.
    """
    pairs = [
        (one.found("lse_d", points, level), other.found("lse_d", points, level))
        for points, levels in one.found("lse_d").items()
        for level in levels
    ]
    known = [(a[CEILING], b[CEILING]) for a, b in pairs if CEILING in a and CEILING in b]
    return all(np.isclose(a, b, rtol=1e-4) for a, b in known) if known else None


def _rows(scored: Sequence[Scored]) -> list[_Row]:
    """The metrics that any run has."""
    rows = [
        _Row(
            f"{score}.{points}.{level}",
            (score, points, level),
            f"{name}, {level.replace('level', 'level ')}, {title_of(points)}",
            better,
        )
        for score, (name, better) in _SYNC.items()
        for points in POINT_SETS
        for level in ("level0", "level1", "level2", "level3")
    ]
    rows += [
        _Row(
            "",
            ("lse_d", points, level),
            f"Place (floor 0, truth 1), {level.replace('level', 'level ')}, {title_of(points)}",
            "higher",
            "normalised",
        )
        for points in POINT_SETS
        for level in ("level0", "level1", "level2", "level3")
    ]
    rows += [_Row(key, (key,), name, better) for key, (name, better) in _MOTION.items()]
    rows += [_Row("", ("frechet", key), name, "lower") for key, name in _FRECHET.items()]
    return [
        row
        for row in rows
        if any(_number_of(run.found(*row.path), row.field) is not None for run in scored)
    ]


def _number_of(entry: Mapping[str, Any], field: str) -> float | None:
    value = entry.get(field) if field else entry.get("value", entry.get("distance"))
    return None if value is None else float(value)


def _value(entry: Mapping[str, Any], field: str) -> Cell:
    value = _number_of(entry, field)
    if value is None:
        return Cell("n/a", tone="soft")
    ends = (f"{field}_low", f"{field}_high") if field else ("low", "high")
    return Cell(number(value), detail=_interval(*map(entry.get, ends)), value=value)


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{number(low)}, {number(high)}]"


def _delta(first: Scored, other: Scored, row: _Row, *, seed: int, resamples: int) -> Cell:
    paired = paired_difference(first, other, row.key, seed=seed, resamples=resamples)
    if paired is not None and paired.value is not None:
        tone = _tone(paired, row.better)
        return Cell(
            _signed(paired.value),
            detail=_interval(paired.low, paired.high),
            tone=tone,
            value=paired.value,
        )
    values = [_number_of(run.found(*row.path), row.field) for run in (first, other)]
    if values[0] is None or values[1] is None:
        return Cell("n/a", tone="soft")
    difference = values[1] - values[0]
    return Cell(_signed(difference), detail="not paired", tone="soft", value=difference)


def paired_difference(
    first: Scored, other: Scored, key: str, *, seed: int, resamples: int
) -> Estimate | None:
    """Mean of other minus first over the sequences that both scored.

    None where fewer than two are known of both, or the runs were judged differently.
    """
    if first.sequences is None or other.sequences is None or same_judges(first, other) is False:
        return None
    values = [_by_sequence(run.sequences, key) for run in (first, other) if run.sequences]
    common = sorted(values[0].keys() & values[1].keys())
    if len(common) < 2:
        return None
    differences = [values[1][name] - values[0][name] for name in common]
    return bootstrap.mean(differences, rng=np.random.default_rng(seed), resamples=resamples)


def _by_sequence(sequences: Mapping[str, Any], key: str) -> dict[tuple[str, int], float]:
    values = sequences["scores"].get(GENERATED, {}).get(key, [])
    return {
        (piece["clip_id"], piece["start"]): value
        for piece, value in zip(sequences["sequences"], values, strict=False)
        if value is not None
    }


def _tone(difference: Estimate, better: str) -> Any:  # noqa: ANN401 - a Literal of Cell.tone
    if difference.low is None or difference.high is None or not better:
        return ""
    if difference.low <= 0 <= difference.high:
        return "soft"
    return "good" if (difference.high < 0) == (better == "lower") else "bad"


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else number(value)
