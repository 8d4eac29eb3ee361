"""The card of a generator in the model registry: what it is, what made it, how good, what not for.

Every number comes from a file that a stage wrote; what is missing is said to be missing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mssync.points import title_of
from mssync.render import gate
from mssync.render.card import Table, table_lines
from mssync.render.plots import number

_SYNC = {"lse_d": "LSE-D, distance of motion and sound at the best shift (lower is better)"}
_MORE_SYNC = {
    "lse_c": "LSE-C, how clear the best shift is (higher is better)",
    "abs_offset_s": "Shift between motion and sound, seconds without sign (lower is better)",
}
_COUPLINGS = {
    "head_speed_loudness": "Correlation of head speed with loudness",
    "mouth_opening_loudness": "Correlation of mouth opening with loudness",
}
_CEILING = "ground_truth"
_OWN = (
    *("value", "low", "high", "n", "padded_sequences"),
    *("normalised", "normalised_low", "normalised_high"),
)
_FRECHET = {
    "fd_frame": "Fréchet distance of frames",
    "fd_time": "Fréchet distance of movement over time",
    "fd_motion": "Fréchet distance of an evaluator's features",
}
_LINEAGE = {
    "git_sha": "code (git)",
    "git_dirty": "changed since that commit",
    "params_hash": "parameters (SHA-256)",
    "seed": "seed",
    "image_digest": "container image",
    "dataset_dvc_md5": "dataset (DVC)",
    "kfp_run_id": "Kubeflow run",
}
_MISSING = "not known"


@dataclass(frozen=True)
class Facts:
    """What a card is made of. None where there is no file, or one of another model.

    Attributes:
        name: Name of the model in the registry.
        sha256: Digest of its weights.
        run_id: The MLflow run that holds its checkpoint.
        artifact: The checkpoint's folder among the run's artifacts.
        decision: `decision.json` of `promote`.
        lineage: Tags of the run.
        checkpoint: `checkpoint.json`.
        parameters: Number of trained numbers.
        dataset: `dataset.json` of the version it was trained on.
        data_card: `card.json` of that version.
        scored: `metrics.json` of `evaluate`.
        missing: Why something above is None, a sentence each.
    """

    name: str
    sha256: str
    run_id: str
    artifact: str
    decision: Mapping[str, Any]
    lineage: Mapping[str, str]
    checkpoint: Mapping[str, Any] | None
    parameters: int | None
    dataset: Mapping[str, Any] | None
    data_card: Mapping[str, Any] | None
    scored: Mapping[str, Any] | None
    missing: Sequence[str]


def markdown(facts: Facts) -> str:
    """The card, the sections first that a short description must not lack."""
    sections = {
        "What it is for": _use(),
        "Consent and misuse": _consent(),
        "Known weaknesses and limits": _limits(facts),
        "Against the champion": _champion(facts),
        "Scores": _scores(facts),
        "Training data": _data(facts),
        "Training": _training(facts),
        "Model": _model(facts),
        "More scores": _more_scores(facts),
        "Load and generate": _loading(facts),
        "Missing from this card": _bullets(facts.missing) or ["Nothing."],
    }
    lines = [f"# Model card: {facts.name}", "", f"Weights `{facts.sha256}`"]
    for title, content in sections.items():
        lines += ["", f"## {title}", "", *content]
    return "\n".join(lines) + "\n"


def _use() -> list[str]:
    return [
        "It moves a face with speech: from the 68 points of one picture of a face (iBUG-68) and a "
        "sound it makes the points of every frame, 25 a second, lips and head. It makes no "
        "picture. It is for research on speech and movement, and for driving a drawn or rendered "
        "face.",
        "",
        "It is not for telling who speaks, what is said or felt, or whether a video is genuine, "
        "and not for lip reading or speech therapy: nothing of that was tested.",
    ]


def _consent() -> list[str]:
    return [
        "Movement made with a person's face and voice can pass for something they said. Use it "
        "only with the consent of the person whose face is moved and of the one whose voice is "
        "heard, and say that it is generated wherever it is shown. The licences below are those of "
        "the clips; they give no right to anybody's likeness.",
    ]


def _limits(facts: Facts) -> list[str]:
    found = [
        "Deterministic: the same face and sound give the same movement, every time. What speech "
        "does not decide, blinks and gestures among it, cannot vary.",
        "Two dimensions and one face; the 68 points have no pupils, teeth or tongue.",
        "It hears log mel energies only: noise, music and several voices move the face too.",
    ]
    if facts.dataset is not None:
        params = facts.dataset["params"]
        found.append(
            f"Trained on faces turned by at most {params['max_yaw_deg']:g}° and at least "
            f"{params['min_interocular_px']:g} pixels between the eyes, on speech at least "
            f"{params['min_snr_db']:g} dB above noise."
        )
    if facts.data_card is not None:
        languages = ", ".join(facts.data_card["languages"])
        found.append(f"Languages of the training clips: {languages} (zxx: no language).")
        drawn = [name for name in facts.data_card["licences"] if "synthetic" in name.lower()]
        if drawn:
            clips = sum(int(facts.data_card["licences"][name]["clips"]) for name in drawn)
            found.append(
                f"**{clips} of the dataset's clips are synthetic, as their licence says: what was "
                "learnt and scored on them says nothing about real people.**"
            )
    if facts.scored is not None:
        found.append(
            f"Scored on {facts.scored['sequences']} sequences of {facts.scored['speakers']} "
            f"{'person' if facts.scored['speakers'] == 1 else 'people'}. Intervals resample "
            "sequences as if they were independent: over few people they are too narrow."
        )
    found.append(
        "The evaluators are trained by the same chain on the same people as the generator: scores "
        "compare systems within one evaluation, not with other papers."
    )
    return _bullets(found)


def _champion(facts: Facts) -> list[str]:
    decision = facts.decision
    rows = [("this model", "", facts.sha256[:12], _value(decision["challenger"]["value"]))]
    champion = decision["champion"]
    if champion:
        rows.append(
            (
                "champion",
                str(champion["version"]),
                champion["sha256"][:12],
                _value(champion["value"]),
            )
        )
    columns = ("model", "version", "weights", f"`{decision['metric']}`")
    header, *compared = gate.rows(decision)
    return [
        f"Decision: {decision['decision']}. {_sentence(decision['reason'])}",
        "",
        *table_lines(Table("", columns, rows)),
        *([] if champion else ["", "There was no champion to compare with."]),
        "",
        *table_lines(Table("", header, compared)),
    ]


def _data(facts: Facts) -> list[str]:
    revision = facts.lineage.get("dataset_revision", _MISSING)
    lines = [f"Revision `{revision}`."]
    scored_on = facts.decision["dataset_revision"]
    if scored_on != revision:
        lines += ["", f"**Scored on another revision, `{scored_on}`.**"]
    if facts.dataset is not None:
        rows = [
            (
                split,
                int(count["clips"]),
                int(count["speakers"]),
                f"{count['minutes'] / 60:.3f}",
            )
            for split, count in facts.dataset["splits"].items()
        ]
        columns = ("split", "clips", "speakers", "hours")
        lines += ["", *table_lines(Table("", columns, rows))]
    if facts.data_card is not None:
        shares = [
            (name, int(share["clips"]), f"{share['minutes'] / 60:.3f}")
            for name, share in facts.data_card["licences"].items()
        ]
        lines += ["", *table_lines(Table("", ("licence", "clips", "hours"), shares))]
    else:
        lines += ["", f"Licences: {_MISSING}."]
    return lines


def _training(facts: Facts) -> list[str]:
    rows = [(what, facts.lineage.get(tag, _MISSING)) for tag, what in _LINEAGE.items()]
    steps = facts.checkpoint["steps"] if facts.checkpoint else _MISSING
    rows += [("steps", steps), ("MLflow run", facts.run_id)]
    return table_lines(Table("", ("what", "value"), rows))


def _model(facts: Facts) -> list[str]:
    count = _MISSING if facts.parameters is None else f"{facts.parameters:,}"
    rows: list[tuple[str, str]] = [("parameters", count)]
    if facts.checkpoint is not None:
        rows += [
            (name, str(value))
            for name, value in (
                *facts.checkpoint["size"].items(),
                ("predicted_frames", facts.checkpoint["predicted_frames"]),
                ("pyramid kernel", facts.checkpoint["kernel"]),
            )
        ]
    return [
        "MS-Sync generator: autoregressive, taught by frozen sync guides on several time scales "
        "and by two critics.",
        "",
        *table_lines(Table("", ("size", "value"), rows)),
    ]


def _scores(facts: Facts) -> list[str]:
    if facts.scored is None:
        return [f"{_MISSING.capitalize()}."]
    metrics = facts.scored["challenger"]["metrics"]
    couplings = [((title,), metrics[name]) for name, title in _COUPLINGS.items() if name in metrics]
    return [
        f"{facts.scored['sequences']} sequences of {facts.scored['frames']} frames of people that "
        f"it never saw ({facts.scored['speakers']}). In brackets: 95 % intervals over sequences. "
        f"`{_CEILING}` is the ceiling, the columns after it are floors and, where there was one, "
        "the champion; where the ceiling is no better than the floors, the evaluator tells "
        "nothing. Place: 0 is another clip's audio, 1 the ground truth. Level 0 sees 25 frames a "
        "second, each further one half as many; a level that is not listed had too few windows. "
        "n/a: cannot be told.",
        *_sync_tables(facts.scored, _SYNC),
        *_table("Movement and loudness", ("measure",), couplings),
    ]


def _more_scores(facts: Facts) -> list[str]:
    if facts.scored is None:
        return [f"{_MISSING.capitalize()}."]
    metrics = facts.scored["challenger"]["metrics"]
    lines = _sync_tables(facts.scored, _MORE_SYNC)
    distances = [
        (title, number(found["distance"]), found["n"])
        for name, title in _FRECHET.items()
        if (found := metrics.get("frechet", {}).get(name))
    ]
    if distances:
        columns = ("distance to the ground truth (lower is better)", "generated", "N")
        lines += ["", *table_lines(Table("", columns, distances))]
    if "rigidity" in metrics:
        found = metrics["rigidity"]
        lines += [
            "",
            "Points that speech does not move leave an affine motion of the first frame by "
            f"{found['value']:.2g} crop sides (ground truth {found[_CEILING]:.2g}).",
        ]
    return lines[1:] or [f"{_MISSING.capitalize()}."]


def _sync_tables(scored: Mapping[str, Any], scores: Mapping[str, str]) -> list[str]:
    """Scores by points and level, the champion's beside them where there was one."""
    reigning = scored["champion"]["metrics"] if scored["champion"] else {}
    lines = list[str]()
    for score, title in scores.items():
        entries = []
        for points, levels in scored["challenger"]["metrics"].get(score, {}).items():
            for level, entry in levels.items():
                theirs = reigning.get(score, {}).get(points, {}).get(level)
                beside = {"champion": theirs["value"]} if theirs else {}
                name = (title_of(points), level.removeprefix("level"))
                entries.append((name, {**entry, **beside}))
        lines += _table(title, ("points", "level"), entries)
    return lines


def _table(
    title: str,
    columns: Sequence[str],
    entries: Sequence[tuple[tuple[str, ...], Mapping[str, Any]]],
) -> list[str]:
    """One score of the generated motion beside its references; empty where there is none."""
    if not entries:
        return []
    names = {
        name: None
        for _, entry in entries
        for name, value in entry.items()
        if not isinstance(value, dict | list)  # intervals of another kind, curves
    }
    shown = [_CEILING, *(name for name in names if name not in (*_OWN, _CEILING))]
    own = {"normalised": "place", "n": "N"}
    last = [name for name in own if name in names]
    rows = [
        (
            *name,
            f"{_value(entry['value'])} ({_value(entry['low'])} to {_value(entry['high'])})",
            *(_value(entry.get(reference)) for reference in shown),
            *(_value(entry.get(each)) if each != "n" else str(entry["n"]) for each in last),
        )
        for name, entry in entries
    ]
    header = (*columns, "generated", *shown, *(own[name] for name in last))
    return ["", f"### {title}", "", *table_lines(Table("", header, rows))]


def _loading(facts: Facts) -> list[str]:
    return [
        "```python",
        "from pathlib import Path",
        "",
        "import mlflow",
        "import torch",
        "",
        "from mssync.trained.networks import load_generator",
        "",
        "# MLFLOW_TRACKING_URI names the store",
        f'folder = mlflow.artifacts.download_artifacts("runs:/{facts.run_id}/{facts.artifact}")',
        'model = load_generator(Path(folder), torch.device("cpu"))',
        "motion_BTPD = model.generate(source_BPD, audio_BAM)",
        "```",
        "",
        "`source_BPD` (1, 68, 2): the points, x right and y down, divided by the side of a square "
        "crop around the face. `audio_BAM` (1, 4 T, M): log mel energies, four rows a frame, as "
        "`extract_audio` makes them. The result (1, T, 68, 2) is in the source's units. Weights "
        "are safetensors; nothing is unpickled.",
    ]


def _bullets(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _value(value: float | None) -> str:
    return "n/a" if value is None else number(value)
