"""The result in a terminal: what came of a workspace's run, in plain text."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mssync.errors import InputError
from mssync.points import title_of
from mssync.render import gate

REFERENCES = ("ground_truth", "other_audio", "static")
_HEADER = ("truth", "other's", "static", "retrieval", "generated", "place", "")


def summary(workspace: Path, *, landmarks: str = "") -> str:
    """Table of the results, decision, and where gallery and runs are.

    Args:
        workspace: Folder in which the chain ran.
        landmarks: What the landmarks are worth, in a line, where that is known.

    Raises:
        InputError: If the chain did not end there.
    """
    metrics = _read(workspace / "evaluation" / "metrics.json")
    syncers = _read(workspace / "models" / "syncers" / "report.json")
    decision = _read(workspace / "promotion" / "decision.json")
    challenger = metrics["challenger"]["metrics"]
    retrieval = metrics["baselines"]["retrieval"]["metrics"]
    name = _named(workspace)
    lines = [
        f"Dataset revision {metrics['dataset_revision'][:12]}; scored on {metrics['sequences']} "
        f"sequences of {metrics['frames']} frames, {metrics['speakers']} held-out speakers",
        *([landmarks] if landmarks else []),
        "",
        *_accuracy_lines(syncers),
        "",
        *_sync_lines(
            "LSE-D, distance of motion and sound: lower is better",
            challenger["lse_d"],
            retrieval["lse_d"],
        ),
        "",
        *_sync_lines(
            "LSE-C, confidence of synchrony: higher is better",
            challenger["lse_c"],
            retrieval["lse_c"],
        ),
        "",
        *_coupling_lines(challenger, retrieval),
        "",
        *_frechet_lines(challenger["frechet"]),
        "",
        f"Decision: {gate.line(decision)}",
        "",
        f"Page:     {workspace / 'promotion' / 'index.html'}   (the decision above the gallery)",
        f"Gallery:  {workspace / 'evaluation' / 'gallery' / 'index.html'}   (one file)",
        f"MLflow:   make mlflow{name}   ({workspace / 'mlflow.db'})",
        f"Data:     {workspace / 'data' / 'card' / 'card.html'}   (what was left out: "
        f"make funnel{name})",
    ]
    return "\n".join(lines)


def _named(workspace: Path) -> str:
    """How make's targets are told of a workspace."""
    if workspace.resolve() == Path.cwd():
        return ""
    in_runs = workspace.resolve().parent == Path("runs").resolve()
    return f" NAME={workspace.name}" if in_runs else f" WORKSPACE={workspace}"


def _accuracy_lines(report: Mapping[str, float]) -> list[str]:
    """Accuracy@1 of the guides on held-out speakers, beside chance."""
    lines = [
        "Guides on held-out speakers: accuracy@1 [95 % interval], chance, windows",
    ]
    for level in range(4):
        for pairs in ("cross_clip", "same_clip"):
            prefix = f"guide.level{level}.test.{pairs}"
            if f"{prefix}.accuracy" not in report:
                continue
            value, low, high, chance = (
                report[f"{prefix}.{name}"] for name in ("accuracy", "low", "high", "chance")
            )
            windows = int(report[f"{prefix}.windows"])
            lines.append(
                f"  level {level} {pairs:<11}{value:7.3f} [{low:.3f}, {high:.3f}]"
                f"{chance:8.3f}{windows:7d}"
            )
    return lines


def _sync_lines(
    title: str, scores: Mapping[str, Mapping[str, Any]], retrieval: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    lines = [title, "  " + " " * 22 + _columns(_HEADER)]
    for points, levels in scores.items():
        for level, entry in sorted(levels.items()):
            references = [_number(entry[name]) for name in REFERENCES]
            interval = "" if entry["low"] is None else f"[{entry['low']:.3g}, {entry['high']:.3g}]"
            place = entry["normalised"]
            values = [
                *references,
                _number(retrieval[points][level]["value"]),
                _number(entry["value"]),
                "n/a" if place is None else f"{place:.0%}",
            ]
            label = f"{level.replace('level', 'level ')}, {title_of(points)}"
            lines.append(f"  {label:<22}{_columns(values)}  {interval}".rstrip())
    lines.append("  place: from another clip's audio (0 %) to the ground truth (100 %)")
    return lines


def _coupling_lines(metrics: Mapping[str, Any], retrieval: Mapping[str, Any]) -> list[str]:
    lines = ["Correlation with loudness: truth, another's audio, retrieval, generated"]
    for name, label in (
        ("head_speed_loudness", "head speed"),
        ("mouth_opening_loudness", "mouth opening"),
    ):
        entry = metrics[name]
        values = [_number(entry[key]) for key in ("ground_truth", "other_audio")]
        values += [_number(system[name]["value"]) for system in (retrieval, metrics)]
        lines.append(f"  {label:<22}{_columns(values)}")
    return lines


def _frechet_lines(distances: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = ["Fréchet distance to the ground truth: all features, principal axes, N"]
    for name, entry in distances.items():
        values = [_number(entry["distance"]), _number(entry["distance_in_axes"]), str(entry["n"])]
        lines.append(f"  {name:<22}{_columns(values)}")
    return lines


def _columns(values: Sequence[str]) -> str:
    return "".join(f"{value:>10}" for value in values)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3g}"


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): run the chain to its end") from error
    return content
