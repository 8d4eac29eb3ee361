"""The gate: does the challenger replace the champion? Scores in, decision out, nothing else.

It is promoted when the interval of its gain in the deciding metric lies above
`promote.min_improvement`, and the interval of no other metric reaches a loss beyond its tolerance.
Why it is so: docs/decisions/0019-the-gate-asks-for-proof.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mssync.errors import InputError
from mssync.metrics import paired
from mssync.metrics.paired import Better, Draws, Gain
from mssync.metrics.version import METRIC_VERSION
from mssync.params import Guarded, Promote

PROMOTE = "promote"
REFUSE = "refuse"

# What the comparison says of one metric.
BETTER = "better"  # the whole interval is a gain; of the deciding metric: above min_improvement
HELD = "held"  # no loss beyond the tolerance is within the interval
UNSURE = "unsure"  # a loss beyond the tolerance is within the interval, and so is less
WORSE = "worse"  # the whole interval is a loss beyond the tolerance
UNTOLD = "untold"  # there is no interval

# roles in the scores by sequence (`evaluate`)
_CHALLENGER, _CHAMPION, _CEILING, _FLOOR = "challenger", "champion", "ceiling", "floor"
_AGAIN = "evaluate again (dvc repro -f -s evaluate promote)"
_PARTS = ("value", "normalised")


def decide(scored: Mapping[str, Any], params: Promote) -> dict[str, Any]:
    """Decide on a challenger. The same scores and parameters give the same decision.

    Args:
        scored: `metrics.json` of `evaluate`.
        params: The section `promote`.

    Returns:
        `decision.json` (docs/data.md).

    Raises:
        InputError: If the two were not scored by the same judges on the same test set by the
            metrics of this code, or a metric is not in the scores.
    """
    _check_comparable(scored)
    challenger, champion = scored["challenger"], scored.get("champion")
    speakers_N, clips_N = scored["paired"]["speaker_id"], scored["paired"]["clip_id"]
    draws = paired.draw(
        speakers_N,
        clips_N,
        rng=np.random.default_rng(params.seed),
        resamples=params.resamples,
    )
    compared = {
        name: _compare(name, guarded, scored, draws, params)
        for name, guarded in sorted(params.metrics.items())  # engines reorder what they hand on
        if champion or name in params.first
    }
    speakers = len(set(speakers_N))
    verdict, reason = _verdict(compared, len(speakers_N), speakers, champion is not None, params)
    if champion and champion["dataset_revision"] != scored["dataset_revision"]:
        reason += (
            f"; the champion was trained on another dataset, {champion['dataset_revision'][:12]}, "
            "and may know these speakers"
        )
    return {
        "decision": verdict,
        "reason": reason,
        "metric": params.metric,
        "metrics": compared,
        "confidence": params.confidence,
        "sequences": len(speakers_N),
        "speakers": speakers,
        "dataset_revision": scored["dataset_revision"],
        "scored_by": challenger["scored_by"],
        "challenger": {
            "sha256": challenger["sha256"],
            "value": _shown(challenger["metrics"], params.metric),
        },
        "champion": champion
        and {
            "version": champion["version"],
            "sha256": champion["sha256"],
            "value": _shown(champion["metrics"], params.metric),
        },
    }


def _check_comparable(scored: Mapping[str, Any]) -> None:
    """Refuse scores that do not mean the same.

    Raises:
        InputError: Saying what differs, and what to run.
    """
    if "challenger" not in scored:
        raise InputError(f"these are not scores of evaluate, which have a challenger: {_AGAIN}")
    systems = {"challenger": scored["challenger"], "champion": scored.get("champion")}
    found = {name: system.get("scored_by") for name, system in systems.items() if system}
    if "paired" not in scored or None in found.values():
        raise InputError(
            "these scores are not by sequence, or do not say by what they were made: an older "
            f"version wrote them; {_AGAIN}"
        )
    for name, by in found.items():
        if by["metric_version"] != METRIC_VERSION:
            raise InputError(
                f"the {name} was scored by version {by['metric_version']} of the metrics, this is "
                f"version {METRIC_VERSION}: {_AGAIN}"
            )
        for what, words in (("test_set", "test sets"), ("judges", "evaluators")):
            if by[what] != found["challenger"][what]:
                raise InputError(
                    f"challenger and champion were scored on different {words} "
                    f"({found['challenger'][what][:12]} and {by[what][:12]}), and cannot be "
                    f"compared: {_AGAIN}"
                )


def _compare(
    name: str, guarded: Guarded, scored: Mapping[str, Any], draws: Draws, params: Promote
) -> dict[str, Any]:
    """One row of the decision: how much better the challenger is, and what that means.

    Without a champion it is compared with what `promote.first` asks for.
    """
    base, _, part = name.rpartition(".")
    values = _values_of(base, part, name, scored)
    first = scored.get("champion") is None
    better = Better(guarded.better)
    if values is not None and better is Better.TRUTH and _CEILING not in values:
        raise InputError(
            f"{name} is to come nearer to the ground truth's value, which the scores do not have "
            f"(promote.metrics.{name}.better): expected higher or lower"
        )
    if values is None:
        found = Gain(None, None, None, 0)
    elif part == "normalised":
        found = _gain_of_place(values, params.first[name] if first else None, draws, params)
    else:
        found = _gain(values, better, params.first[name] if first else None, draws, params)
    asked = params.min_improvement if name == params.metric and not first else 0.0
    row = {
        "verdict": _meaning(found, asked=asked, tolerance=0.0 if first else guarded.tolerance),
        "better": guarded.better,
        **({"asked": params.first[name]} if first else {"tolerance": guarded.tolerance}),
        "challenger": _shown(scored["challenger"]["metrics"], name),
        "gain": found.value,
        **{end: value for end, value in asdict(found).items() if end != "value"},
    }
    return row if first else row | {"champion": _shown(scored["champion"]["metrics"], name)}


def _gain(
    values: Mapping[str, Sequence[float]],
    better: Better,
    asked: float | None,
    draws: Draws,
    params: Promote,
) -> Gain:
    """Gain over the champion; over a constant where something is asked for instead."""
    truth = _floats(values[_CEILING]) if better is Better.TRUTH else None
    if asked is None:
        theirs = _floats(values[_CHAMPION])
    else:
        theirs = [asked + nearest for nearest in truth or [0.0] * len(values[_CHALLENGER])]
    return paired.gain(
        _floats(values[_CHALLENGER]),
        theirs,
        draws,
        better=better,
        confidence=params.confidence,
        truth_N=truth,
    )


def _gain_of_place(
    values: Mapping[str, Sequence[float]], asked: float | None, draws: Draws, params: Promote
) -> Gain:
    ceiling, floor = _floats(values[_CEILING]), _floats(values[_FLOOR])
    if asked is None:
        theirs = _floats(values[_CHAMPION])
    else:
        theirs = [low + asked * (high - low) for low, high in zip(floor, ceiling, strict=True)]
    return paired.gain_of_place(
        _floats(values[_CHALLENGER]),
        theirs,
        draws,
        ceiling_N=ceiling,
        floor_N=floor,
        confidence=params.confidence,
    )


def _floats(values_N: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values_N]


def _meaning(found: Gain, *, asked: float, tolerance: float) -> str:
    if found.value is None or found.low is None or found.high is None:
        return UNTOLD
    if found.low > asked:
        return BETTER
    if found.low >= -tolerance:
        return HELD
    return UNSURE if found.high >= -tolerance else WORSE


def _verdict(
    compared: Mapping[str, Mapping[str, Any]],
    sequences: int,
    speakers: int,
    has_champion: bool,
    params: Promote,
) -> tuple[str, str]:
    """Decision and reason, in one sentence."""
    for count, least, what in (
        (sequences, params.min_sequences, "sequences"),
        (speakers, params.min_speakers, "speakers"),
    ):
        if count < least:
            return REFUSE, (
                f"{count} {what} decide nothing, at least {least} must (promote.min_{what})"
            )
    if not has_champion:
        failed = [
            f"{_asked(name, row)}: {_short_of(row, params)}"
            for name, row in compared.items()
            if row["verdict"] != BETTER
        ]
        if failed:
            return REFUSE, "there is no champion; " + "; ".join(failed)
        met = "; ".join(_asked(name, row) for name, row in compared.items())
        return PROMOTE, f"there is no champion; {met}, and that is shown"
    failed = [told for name, row in compared.items() if (told := _objection(name, row, params))]
    decider = compared[params.metric]
    change = (
        f"{params.metric} is {_number(decider['challenger'])}, the champion's "
        f"{_number(decider['champion'])}, a gain of {_interval(decider, params)}"
    )
    if failed:
        return REFUSE, "; ".join([change, *failed])
    others = [row["verdict"] for name, row in compared.items() if name != params.metric]
    untold = [name for name, row in compared.items() if row["verdict"] == UNTOLD]
    told = f"; {len(others) - len(untold)} other metrics lost no more than they may"
    return PROMOTE, change + (told if others else "") + (
        f"; of {', '.join(untold)} nothing can be told" if untold else ""
    )


def _objection(name: str, row: Mapping[str, Any], params: Promote) -> str:
    """Why a metric keeps the challenger out; empty where it does not."""
    verdict, allowed = row["verdict"], f"promote.metrics.{name}.tolerance"
    if name == params.metric:
        if verdict == BETTER:
            return ""
        return (
            f"a gain surely above {params.min_improvement:g} is asked for (promote.min_improvement)"
        )
    if verdict == WORSE:
        return (
            f"{name} loses: its gain is {_interval(row, params)}, and {row['tolerance']:g} may be "
            f"lost ({allowed})"
        )
    if verdict == UNSURE:
        return (
            f"{name} may lose more than {row['tolerance']:g}: its gain is "
            f"{_interval(row, params)}; more held-out speakers would tell, or a wider {allowed}"
        )
    if verdict == UNTOLD and params.untold == "refuse":
        return f"nothing can be told of {name} (promote.untold is refuse)"
    return ""


def _asked(name: str, row: Mapping[str, Any]) -> str:
    words = {"higher": "above", "lower": "below", "truth": "as near the ground truth as"}
    return (
        f"{name} is {_number(row['challenger'])} and must be {words[row['better']]} "
        f"{row['asked']:g} (promote.first)"
    )


def _short_of(row: Mapping[str, Any], params: Promote) -> str:
    if row["verdict"] == UNTOLD:
        return "nothing can be told of it"
    return f"the margin is {_interval(row, params)}, and all of it must be above 0"


def _interval(row: Mapping[str, Any], params: Promote) -> str:
    if row["low"] is None:
        return f"{_number(row['gain'])} without an interval"
    return (
        f"{_number(row['gain'])} ({params.confidence:.0%}: {_number(row['low'])} to "
        f"{_number(row['high'])})"
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3g}"


def _values_of(
    base: str, part: str, name: str, scored: Mapping[str, Any]
) -> Mapping[str, Sequence[float]] | None:
    """A metric's values by system and sequence; None where the level has no judge.

    Raises:
        InputError: If there is no such metric, or it cannot be compared so.
    """
    found: Mapping[str, Mapping[str, Sequence[float]]] = scored["paired"]["values"]
    if base in found and part in _PARTS and part in _found(scored["challenger"]["metrics"], base):
        return found[base]
    points, _, level = base.rpartition(".")
    if level in {f"level{number}" for number in range(4)} and any(
        other.startswith(f"{points}.level") for other in found
    ):
        return None
    raise InputError(
        f"the scores have no metric {name} by sequence (promote.metrics): expected one of "
        f"{', '.join(sorted(found))}, followed by .value, or .normalised where there is a floor"
    )


def _shown(metrics: Mapping[str, Any], name: str) -> float | None:
    """What `metrics.json` has under a key; None where it has none, or n/a."""
    base, _, part = name.rpartition(".")
    value = _found(metrics, base).get(part)
    return None if value is None else float(value)


def _found(metrics: Mapping[str, Any], base: str) -> Mapping[str, Any]:
    """The entry of a metric; empty where there is none."""
    found: Any = metrics
    for part in base.split("."):
        found = found.get(part, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}
