"""What experiments scored, side by side: a row a setting, mean and interval over seeds.

    python -m bench.ablation [--system retrieval] [--score place.level0 ...] [--commits 3]

It reads the experiments of `dvc exp run` at this commit, or at the last few. Those that differ in
nothing but `run.seed` make one row. The interval is Student's, of the mean over seeds: it tells how
much training varies, and nothing about other speakers.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from scipy import stats

from mssync import versions
from mssync.cli import guarded
from mssync.errors import InputError
from mssync.stages.evaluate import CHALLENGER, SCORES
from mssync.tracking import flatten, numbers

SEED = "run.seed"
CONFIDENCE = 0.95
SHOWN = (
    *(f"place.level{level}" for level in range(4)),
    *("fd_motion", "head_speed_loudness", "mouth_opening_loudness", "rigidity"),
)


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes:
        name: Its name.
        params: Every parameter, by its dotted name.
        scores: Every score of `scores.json` that is not n/a, by its dotted name.
    """

    name: str
    params: Mapping[str, object]
    scores: Mapping[str, float]


def experiments(shown: Sequence[Mapping[str, Any]]) -> tuple[list[Experiment], list[str]]:
    """Experiments with scores, and names of those without.

    Of several with the same parameters, which give the same scores, the newest is taken.

    Args:
        shown: What `dvc exp show --json` prints.
    """
    found, lacking = dict[str, Experiment](), list[str]()
    for commit in shown:
        for group in commit["experiments"] or []:
            tip = group["revs"][0]
            name = str(tip["name"] or tip["rev"][:7])
            data = tip["data"] or {}
            scores = _content(data.get("metrics"), SCORES)
            if scores is None:
                lacking.append(name)
                continue
            params = flatten(_content(data["params"], "params.yaml") or {})
            found.setdefault(json.dumps(params), Experiment(name, params, numbers(scores)))
    return list(found.values()), lacking


def _content(files: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    """What a file of that name holds; None where there is none that can be read."""
    for path, file in (files or {}).items():
        if Path(path).name == name and "data" in file:
            content: dict[str, Any] = file["data"]
            return content
    return None


def table(found: Sequence[Experiment], scores: Sequence[str], *, system: str) -> str:
    """A table in Markdown; its first columns are the parameters in which experiments differ.

    Args:
        found: Experiments of one commit.
        scores: Dotted names of the scores shown.
        system: Whose scores.

    Raises:
        InputError: If a score is none of those that experiments have.
    """
    known = {*SHOWN} | {name.partition(".")[2] for each in found for name in each.scores}
    unknown = sorted(set(scores) - known)
    if unknown:
        raise InputError(
            f"no experiment has the score {', '.join(unknown)}; there are: "
            f"{', '.join(sorted(known))}"
        )
    names = sorted({name for experiment in found for name in experiment.params})
    differing = [
        name
        for name in names
        if name != SEED and len({_written(each.params.get(name)) for each in found}) > 1
    ]
    rows = dict[tuple[str, ...], list[Experiment]]()
    for experiment in found:
        setting = tuple(_written(experiment.params.get(name)) for name in differing)
        rows.setdefault(setting, []).append(experiment)
    lines = [[*differing, "seeds", *scores], ["---"] * (len(differing) + 1 + len(scores))]
    for setting, alike in sorted(rows.items()):
        values = [
            interval([each.scores.get(f"{system}.{score}") for each in alike]) for score in scores
        ]
        seeds = sorted(str(each.params.get(SEED)) for each in alike)
        lines.append([*setting, " ".join(seeds), *values])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def interval(values: Sequence[float | None]) -> str:
    """Mean and Student's 95 % interval of the mean of those values that exist, with their number.

    One value has no interval; none is n/a.
    """
    given = [value for value in values if value is not None]
    if not given:
        return "n/a"
    count, mean = len(given), math.fsum(given) / len(given)
    told = f" ({count} of {len(values)})" if count < len(values) else ""
    if count == 1:
        return f"{mean:.3g}{told}"
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in given) / (count - 1))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * spread / math.sqrt(count)
    return f"{mean:.3g} [{mean - reach:.3g}, {mean + reach:.3g}]{told}"


def _written(value: object) -> str:
    """A parameter as it stands in the table: 1 and 1.0 are one setting."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if number else json.dumps(value)


def main(
    system: Annotated[
        str, typer.Option(help="generated, or a baseline: retrieval, static.")
    ] = CHALLENGER,
    score: Annotated[
        list[str] | None, typer.Option(help="A score of scores.json; may be repeated.")
    ] = None,
    commits: Annotated[
        int, typer.Option(min=1, help="How many commits back experiments are taken from.")
    ] = 1,
) -> None:
    """Print the table."""
    shown = versions.dvc(Path(), "exp", "show", "--json", "--num", str(commits))
    found, lacking = experiments(json.loads(shown))
    if not found:
        raise InputError("no experiment at this commit has scores: docs/experiments.md")
    typer.echo(table(found, score or SHOWN, system=system))
    if lacking:
        typer.echo(f"\nWithout scores, waiting or failed: {', '.join(lacking)}")


if __name__ == "__main__":
    guarded(lambda: typer.run(main))
