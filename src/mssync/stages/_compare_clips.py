"""The clips of several galleries as those of one: each with what every run made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mssync.metrics import sync
from mssync.metrics.baselines import RETRIEVAL
from mssync.render import payload
from mssync.render.payload import GalleryEntry, Trace
from mssync.stages._gallery import label
from mssync.timing import FRAME_RATE_HZ

_ROUNDING = 2 / payload.QUANTUM


def merged(galleries: Mapping[str, Sequence[GalleryEntry]]) -> list[GalleryEntry]:
    """Each clip with what every run made of it, in the order of the first gallery.

    Args:
        galleries: Name of a run -> clips of its gallery.
    """
    found = dict[str, list[tuple[str, GalleryEntry]]]()
    for run, clips in galleries.items():
        for clip in clips:
            found.setdefault(clip.clip_id, []).append((run, clip))
    return [_merge(each) for each in found.values()]


def _merge(found: Sequence[tuple[str, GalleryEntry]]) -> GalleryEntry:
    """One clip of several runs: the first one's truth and baseline, and each run's generator.

    A ground truth that differs, as that of another version of the data does, is shown too.
    """
    truth, generated, baseline = label(sync.CEILING), label("generated"), label(RETRIEVAL)
    merged: GalleryEntry | None = None
    for run, clip in found:
        names = {generated: run}
        if merged is None:
            names |= {truth: truth, baseline: baseline}
        elif _differs(merged.motions.get(truth), clip.motions.get(truth)):
            names |= {truth: f"{truth} of {run}"}
        part = _renamed(clip, names)
        if merged is None:
            merged = part
        elif part.frames == merged.frames:
            merged = _joined(merged, part)
        else:
            warning = f"{run}: {part.frames / FRAME_RATE_HZ:g} s long, not shown"
            merged = replace(merged, warnings=[*merged.warnings, warning])
    assert merged is not None
    order = sorted(merged.motions, key=lambda name: (name != truth, name == baseline))
    return replace(merged, motions={name: merged.motions[name] for name in order})


def _differs(one: Any, other: Any) -> bool:  # noqa: ANN401 - motions, or None
    if one is None or other is None or one.shape != other.shape:
        return False
    return bool(np.abs(one - other).max() > _ROUNDING)


def _renamed(clip: GalleryEntry, names: Mapping[str, str]) -> GalleryEntry:
    """A clip with those systems only, under other names."""

    def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
        return {names[name]: value for name, value in values.items() if name in names}

    return replace(
        clip,
        motions=renamed(clip.motions),
        scores={score: renamed(values) for score, values in clip.scores.items()},
        failures=renamed(clip.failures),
        head_speeds=renamed(clip.head_speeds),
        traces=[replace(trace, systems=renamed(trace.systems)) for trace in clip.traces],
    )


def _joined(one: GalleryEntry, other: GalleryEntry) -> GalleryEntry:
    levels = {trace.level: trace for trace in other.traces}
    scores = {
        name: {**one.scores.get(name, {}), **other.scores.get(name, {})}
        for name in dict.fromkeys([*one.scores, *other.scores])
    }
    return replace(
        one,
        motions={**one.motions, **other.motions},
        scores=scores,
        failures={**one.failures, **other.failures},
        head_speeds={**one.head_speeds, **other.head_speeds},
        traces=[_joined_trace(trace, levels.get(trace.level)) for trace in one.traces],
    )


def _joined_trace(one: Trace, other: Trace | None) -> Trace:
    return replace(one, systems={**one.systems, **other.systems}) if other else one
