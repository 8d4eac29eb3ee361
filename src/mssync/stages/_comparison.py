"""Tables of every system side by side: scores, failures, long roll-outs."""

from collections.abc import Mapping, Sequence
from typing import Any

from mssync.metrics import sync
from mssync.metrics.bootstrap import Estimate
from mssync.metrics.failures import KINDS
from mssync.points import title_of
from mssync.render.gallery import MetricRow, MetricTable
from mssync.stages._failures import ANY, Judged, summary
from mssync.stages._gallery import label

_KIND_NAMES = {kind: kind.replace("_", " ").capitalize() for kind in KINDS} | {ANY: "Any of them"}
_MEASURES = {
    "lse_d.level0": "LSE-D, level 0",
    "lse_d.level1": "LSE-D, level 1",
    "lse_d.level2": "LSE-D, level 2",
    "lse_d.level3": "LSE-D, level 3",
    "shape": "Shape of the head",
    "place": "Distance from its first place",
    "head_speed": "Speed of the head",
    "mouth": "Movement of the mouth",
}


def tables(report: Mapping[str, Any], judged: Sequence[Judged]) -> list[MetricTable]:
    """What all systems have in common to show, from what `metrics.json` holds."""
    return [
        *([systems_table(report)] if report["systems"] else []),
        failures_table(report, judged),
        *(
            rollout_table(system, curves, sequences=len(report["rollouts"]["frames"]))
            for system, curves in report["rollouts"]["systems"].items()
        ),
    ]


def systems_table(report: Mapping[str, Any]) -> MetricTable:
    """One line a score, one column a system, on the same sequences."""
    scored = _scored(report)
    sequences = report["sequences"]
    left_out = len(report["left_out"])
    rows = []
    for points, levels in next(iter(scored.values()))["lse_d"].items():
        for level in levels:
            entries = {name: metrics["lse_d"][points][level] for name, metrics in scored.items()}
            first = next(iter(entries.values()))
            truth = Estimate(first[sync.CEILING], None, None, first["n"])
            rows.append(
                MetricRow(
                    f"LSE-D, {level}, {title_of(points)}",
                    [truth, *(_estimate(entry) for entry in entries.values())],
                    None,
                    first["n"],
                )
            )
    for name in ("fd_frame", "fd_time", "fd_motion"):
        found = {system: metrics["frechet"][name] for system, metrics in scored.items()}
        n = next(iter(found.values()))["n"]
        rows.append(
            MetricRow(
                name.replace("_", "-"),
                [None, *(Estimate(each["distance"], None, None, n) for each in found.values())],
                None,
                n,
            )
        )
    said = f" {left_out} more were left out, which one of them lacks." if left_out else ""
    return MetricTable(
        "Systems side by side",
        f"Every system on the same {sequences} sequences.{said}",
        "lower",
        [label(sync.CEILING), *map(label, scored)],
        rows,
    )


def failures_table(report: Mapping[str, Any], judged: Sequence[Judged]) -> MetricTable:
    """Share of failed sequences, a line for each kind."""
    scored = _scored(report)
    truth = summary(judged, sync.CEILING)
    return MetricTable(
        "Failed sequences",
        "Share of sequences in which a detector found a failure. What it finds in the ground truth "
        "are false alarms.",
        "lower",
        [label(sync.CEILING), *map(label, scored)],
        [
            MetricRow(
                _KIND_NAMES[kind],
                [
                    Estimate(found[kind]["share"], None, None, found[kind]["judged"])
                    for found in (truth, *(metrics["failures"] for metrics in scored.values()))
                ],
                None,
                truth[kind]["judged"],
            )
            for kind in _KIND_NAMES
        ],
    )


def rollout_table(system: str, curves: Mapping[str, Any], *, sequences: int) -> MetricTable:
    """How one generator's scores change over long sequences."""
    rows = []
    for measure, name in _MEASURES.items():
        if measure not in curves:
            continue
        found = curves[measure]
        real = found["real"]
        rows.append(
            MetricRow(
                name,
                [
                    Estimate(real["mean"], real["low"], real["high"], real["blocks"]),
                    Estimate(found["mean"][0], None, None, found["sequences"][0]),
                    Estimate(found["mean"][-1], None, None, found["sequences"][-1]),
                    _estimate(found["change"]),
                    Estimate(found["outside"], None, None, sum(found["sequences"])),
                ],
                None,
                sequences,
            )
        )
    return MetricTable(
        f"Long roll-outs: {label(system)}",
        "Block by block over far more sound than in training; real: where nine of ten blocks of "
        "real clips lie. Change: last quarter less first. Outside: share of blocks beyond the real "
        "ones, of which a tenth is.",
        "closer to the ground truth",
        ["Real blocks", "First block", "Last block", "Change", "Outside"],
        rows,
    )


def _scored(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Metrics by system, in the order of the columns."""
    everything = {"generated": report["challenger"]}
    if report["champion"]:
        everything["champion"] = report["champion"]
    everything |= report["systems"] | report["baselines"]
    return {name: found["metrics"] for name, found in everything.items()}


def _estimate(entry: Mapping[str, Any]) -> Estimate:
    return Estimate(entry["value"], entry["low"], entry["high"], entry["n"])
