"""`mssync compare`: runs, or versions of the dataset, side by side on one page."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from mssync import tracking
from mssync.data import history
from mssync.errors import InputError
from mssync.params import Params
from mssync.records import GALLERY
from mssync.render import gate, payload, plots
from mssync.render.gallery import Cell, Page, Plots, TextTable, write_gallery, write_images
from mssync.render.payload import GalleryEntry
from mssync.stages import _compare_versions, _deltas, _gallery
from mssync.stages._compare_clips import merged
from mssync.stages._compare_versions import changed_cell
from mssync.stages._compare_versions import version as version_named
from mssync.stages._deltas import Scored
from mssync.stages._training import PARAMETERS
from mssync.stages.evaluate import METRICS, SEQUENCES
from mssync.stages.promote import GATE
from mssync.tracking import TrackedRun

logger = logging.getLogger(__name__)

_FOLDER = "evaluation"
_LINEAGE = {
    "dataset_revision": "dataset",
    "git_sha": "code (git)",
    "git_dirty": "changed since that commit",
    "params_hash": "parameters (SHA-256)",
    "seed": "seed",
    "image_digest": "container image",
    tracking.MODEL_TAG: "generator (SHA-256)",
}
_CURVES = (
    *("train/loss", "train/position", "train/rigidity", "train/sync", "val/position"),
    *(f"val/sync_level{level}" for level in range(4)),
    *(f"guide/level{level}/val_accuracy" for level in range(4)),
)


@dataclass(frozen=True)
class Run:
    """A run with what its evaluation wrote.

    Attributes:
        tracked: What the store knows of it.
        settings: The whole parameter file that it kept, names joined by dots; None: it kept none.
        scored: Its scores, under the name it has on the page.
        clips: Those of its gallery.
    """

    tracked: TrackedRun
    settings: Mapping[str, object] | None
    scored: Scored
    clips: Sequence[GalleryEntry]


def run(
    names: Sequence[str],
    out: Path,
    params: Params,
    *,
    dataset_folder: Path,
    videos: Path | None,
    images: Path | None,
) -> str:
    """Write a page that compares runs, or versions of the dataset.

    Args:
        names: Two or more, all of one kind: runs as `tracking.find_run` takes them, or versions as
            `history.find` does.
        out: HTML file to write.
        params: Tracking store, name of the model, seed and number of resamples.
        dataset_folder: The dataset whose versions are meant.
        videos: Folder to write MP4 files of the clips to.
        images: Folder to write the plots to, as SVG files.

    Returns:
        What differs, in lines.

    Raises:
        InputError: If a name is unknown, or there are runs and versions among them.
        ToolError: If the store cannot be used.
    """
    if len(names) < 2:
        raise InputError(f"a comparison takes two names or more, found {len(names)}")
    versions = [version_named(name, history.folder_of(dataset_folder)) for name in names]
    known = [version for version in versions if version is not None]
    if known and len(known) < len(names):
        given = {bool(version): name for name, version in zip(names, versions, strict=True)}
        raise InputError(
            f"{given[True]} is a version of the dataset, {given[False]} is none: compare runs with "
            "runs, or versions with versions"
        )
    page = _compare_versions.page(known) if known else _of_runs(names, params, dataset_folder)
    write_gallery(out, page, videos=videos)
    if images is not None:
        write_images(images, page.plots)
    told = [page.summary, *page.notes]
    return "\n".join([*told, *(f"{table.title}: {table.explanation}" for table in page.changes)])


def _of_runs(names: Sequence[str], params: Params, dataset_folder: Path) -> Page:
    found = [
        tracking.find_run(params.paths.tracking_uri, name, model_name=params.paths.model_name)
        for name in names
    ]
    if len({each.run_id for each in found}) < len(found):
        raise InputError(f"{', '.join(names)} name one run twice: give different ones")
    uri = params.paths.tracking_uri
    with TemporaryDirectory() as folder:
        runs = [
            _read(each, label, uri, Path(folder) / each.run_id)
            for each, label in zip(found, _labels(found), strict=True)
        ]
    deltas = _deltas.table(
        [each.scored for each in runs], seed=params.run.seed, resamples=params.evaluate.bootstrap
    )
    changed = _changed_params(runs)
    clips = merged({each.scored.label: each.clips for each in runs})
    curves = _training_curves(runs, uri)
    systems = list(dict.fromkeys(name for clip in clips for name in clip.motions))
    return Page(
        title="Runs side by side",
        summary=_summary(runs, changed, len(clips)),
        facts={
            each.scored.label: f"{each.tracked.run_id[:12]}, {each.tracked.started}"
            for each in runs
        },
        notes=_notes(runs),
        changes=[
            *([deltas] if deltas else []),
            changed,
            _changed_data(runs, history.folder_of(dataset_folder)),
            _lineage(runs),
        ],
        entries=clips,
        clips_note=(
            f"{len(clips)} clips of the runs' galleries, in the order of the first, its failures "
            "first. All faces of a clip hear the same sound and share one clock. Under the faces: "
            "the distance of motion and sound at each level, at this moment (lower is better)."
        ),
        plots=[*curves, *_drift(clips, systems)],
        judged=runs[-1].scored.label if runs[-1].scored.label in systems else "",
    )


def _labels(found: Sequence[TrackedRun]) -> list[str]:
    """A short name of each that no other has."""
    several = Counter(each.name for each in found)
    return [
        each.name if several[each.name] == 1 else f"{each.name} {each.run_id[:6]}" for each in found
    ]


def _read(found: TrackedRun, label: str, uri: str, folder: Path) -> Run:
    """Fetch what the run's evaluation wrote."""
    names = (METRICS, SEQUENCES, GALLERY.name)
    files = {
        path.name: path for path in tracking.fetch_files(uri, found.run_id, _FOLDER, names, folder)
    }
    scored = Scored(label, _json(files.get(METRICS)), _json(files.get(SEQUENCES)))
    page = files.get(GALLERY.name)
    kept = tracking.fetch_files(uri, found.run_id, tracking.RECIPE, (PARAMETERS,), folder)
    return Run(
        found, _settings(kept[0]) if kept else None, scored, payload.read(page) if page else []
    )


def _settings(file: Path) -> dict[str, object]:
    try:
        return tracking.flatten(yaml.safe_load(file.read_text()))
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
        raise InputError(
            f"{tracking.RECIPE}/{file.name} of a run is damaged ({error}): remove it there, and "
            "the parameters that the run logged are compared"
        ) from error


def _json(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path.name} of a run is damaged ({error}): evaluate again") from error
    return content


def _notes(runs: Sequence[Run]) -> list[str]:
    notes = []
    for each in runs:
        lacks = [
            name
            for name, there in (
                ("scores", each.scored.metrics),
                ("scores of each sequence", each.scored.sequences),
                ("clips", each.clips),
            )
            if not there
        ]
        if lacks:
            notes.append(
                f"{each.scored.label} has no {', no '.join(lacks)}: it was not evaluated, or by an "
                "older version. mssync evaluate on its generator writes them."
            )
        tags = each.tracked.tags
        if f"{GATE}decision" in tags:
            told = gate.line({name: tags[f"{GATE}{name}"] for name in ("decision", "reason")})
            notes.append(f"The gate on {each.scored.label}: {told}")
    first = runs[0]
    for each in runs[1:]:
        if _deltas.same_judges(first.scored, each.scored) is False:
            notes.append(
                f"{first.scored.label} and {each.scored.label} were scored by other evaluators, or "
                "on other sequences: the ground truth scores differently. Their distances "
                "are not comparable; places between floor and truth, and the faces, are."
            )
    return notes


def _summary(runs: Sequence[Run], changed: TextTable, clips: int) -> str:
    revisions = {each.tracked.tags.get("dataset_revision", "") for each in runs}
    data = (
        "on the same data" if len(revisions) == 1 else f"on {len(revisions)} versions of the data"
    )
    count = len(changed.rows)
    differ = "1 parameter differs" if count == 1 else f"{count} parameters differ"
    return f"{len(runs)} runs {data}, {differ}, {clips} clips."


def _changed_params(runs: Sequence[Run]) -> TextTable:
    """Of all stages, where every run kept its file; else of the stages that the runs are of."""
    kept = [each.settings for each in runs if each.settings is not None]
    whole = len(kept) == len(runs)
    given = kept if whole else [each.tracked.params for each in runs]
    names = sorted({name for each in given for name in each})
    rows = []
    for name in names:
        if all(name in each and each[name] == given[0].get(name) for each in given):
            continue  # 1 and 1.0 are one setting
        values = [str(each[name]) if name in each else None for each in given]
        rows.append([Cell(name), *(changed_cell(value, values[0]) for value in values)])
    told = f"{len(rows)} differ, {len(names) - len(rows)} are the same"
    if whole:
        told += ", of all stages."
    elif names:
        told += ", of the runs' own stages; not all of the runs kept those of the others."
    else:
        told = "None is known: the runs logged none."
    return TextTable(
        "Parameters",
        told,
        ["Parameter", *(each.scored.label for each in runs)],
        rows,
        wide=True,
    )


def _changed_data(runs: Sequence[Run], folder: Path) -> TextTable:
    """What became of the clips between the versions that the runs were trained on."""
    revisions = [each.tracked.tags.get("dataset_revision", "") for each in runs]
    columns = ["Between", "as they were", "added", "removed", "decided otherwise", "other content"]
    rows, unknown = [], []
    for each, revision in zip(runs[1:], revisions[1:], strict=True):
        if revision == revisions[0]:
            continue
        named = f"{runs[0].scored.label} → {each.scored.label}"
        versions = [
            version_named(name, folder) if name else None for name in (revisions[0], revision)
        ]
        if versions[0] is None or versions[1] is None:
            unknown.append(named)
            continue
        found = history.diff(versions[0], versions[1])
        counts = (len(found.added), len(found.removed), len(found.decided), len(found.changed))
        rows.append([Cell(named), *(_count(value) for value in (found.same, *counts))])
    if len(set(revisions)) == 1:
        text = f"All were trained on {revisions[0][:12] or 'a version that no tag tells'}."
    else:
        text = "Clips of the versions that the runs were trained on."
    if unknown:
        text += f" Not known in {folder}: {', '.join(unknown)}."
    return TextTable("Data", text, columns, rows)


def _count(value: int) -> Cell:
    return Cell(str(value), value=value)


def _lineage(runs: Sequence[Run]) -> TextTable:
    rows = []
    for tag, name in _LINEAGE.items():
        values = [each.tracked.tags.get(tag, "") for each in runs]
        if any(values):
            rows.append([Cell(name), *(_origin(value, values[0]) for value in values)])
    return TextTable(
        "Lineage",
        "Where each run comes from.",
        ["", *(each.scored.label for each in runs)],
        rows,
        open=False,
        wide=True,
    )


def _origin(value: str, first: str) -> Cell:
    return Cell(value[:16] or "not known", tone="" if value == first else "good")


def _training_curves(runs: Sequence[Run], uri: str) -> list[Plots]:
    """What was logged while the runs were trained."""
    logged = [tracking.metric_history(uri, each.tracked.run_id, _CURVES) for each in runs]
    labels = ["", *(each.scored.label for each in runs)]  # the colours that the faces have
    drawn = []
    for name in _CURVES:
        lines = {
            label: curves.get(name, ([], []))
            for label, curves in zip(labels, [{}, *logged], strict=True)
        }
        if any(np.isfinite(values).any() for _, values in lines.values() if values):
            drawn.append((name, plots.lines(lines, x_label="step")))
    if not drawn:
        return []
    explanation = "As logged to MLflow, over the steps of the training."
    return [Plots("Training", explanation, labels, drawn)]


def _drift(clips: Sequence[GalleryEntry], systems: Sequence[str]) -> list[Plots]:
    whole = [clip for clip in clips if list(clip.motions) == list(systems) and clip.traces]
    shapes = {tuple(len(trace.systems) for trace in clip.traces) for clip in whole}
    lengths = {clip.frames for clip in whole}
    return [_gallery.drift_plots(whole)] if len(shapes) == len(lengths) == 1 else []
