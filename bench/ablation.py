"""What experiments scored, side by side: a row a setting, mean and interval over seeds.

    python -m bench.ablation [--system retrieval] [--score place.level0] [--paired] [--commits 3]

It reads the experiments of `dvc exp run` at this commit, or at the last few. Those that differ in
nothing but `run.seed` make one row. The interval is Student's, of the mean over seeds: it tells how
much training varies, and nothing about other speakers. Settings that share guides and judges of a
seed are better compared seed by seed: `--paired` takes the differences.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
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


@dataclass(frozen=True)
class Rows:
    """Experiments by setting.

    Attributes:
        differing: The parameters in which experiments differ, but for the seed.
        by_setting: Their values, as written, and the experiments that have them.
    """

    differing: Sequence[str]
    by_setting: Mapping[tuple[str, ...], Sequence[Experiment]]


def settings(found: Sequence[Experiment]) -> Rows:
    """Group experiments that differ in nothing but their seed."""
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
    return Rows(differing, dict(sorted(rows.items())))


def check(found: Sequence[Experiment], scores: Sequence[str]) -> None:
    """Refuse names of scores that no experiment has.

    Raises:
        InputError: Naming them, and those that there are.
    """
    known = {*SHOWN} | {name.partition(".")[2] for each in found for name in each.scores}
    unknown = sorted(set(scores) - known)
    if unknown:
        raise InputError(
            f"no experiment has the score {', '.join(unknown)}; there are: "
            f"{', '.join(sorted(known))}"
        )


def table(rows: Rows, scores: Sequence[str], *, system: str) -> str:
    """A table in Markdown; its first columns are the parameters in which experiments differ.

    Args:
        rows: The experiments.
        scores: Dotted names of the scores shown.
        system: Whose scores.
    """
    lines = [
        [
            *setting,
            " ".join(sorted(str(each.params.get(SEED)) for each in alike)),
            *(
                interval([each.scores.get(f"{system}.{score}") for each in alike])
                for score in scores
            ),
        ]
        for setting, alike in rows.by_setting.items()
    ]
    return _markdown([*rows.differing, "seeds", *scores], lines)


def differences(rows: Rows, scores: Sequence[str], *, system: str) -> str:
    """A table in Markdown: each setting less each one above it, seed by seed.

    Args:
        rows: The experiments; seeds that only one of two settings has are left out.
        scores: Dotted names of the scores shown.
        system: Whose scores.
    """
    lines = []
    for before, after in combinations(rows.by_setting.items(), 2):
        (less, first), (setting, second) = before, after
        by_seed = [{each.params.get(SEED): each.scores for each in one} for one in (first, second)]
        seeds = sorted(by_seed[0].keys() & by_seed[1].keys(), key=str)
        values = []
        for score in scores:
            name = f"{system}.{score}"
            gains = [_difference(*(each[seed].get(name) for each in by_seed)) for seed in seeds]
            values.append(interval(gains))
        told = " ".join(map(str, seeds)) or "none in common"
        lines.append([", ".join(setting), ", ".join(less), told, *values])
    return _markdown(["setting", "less", "seeds", *scores], lines)


def _difference(old: float | None, new: float | None) -> float | None:
    return None if old is None or new is None else new - old


def _markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    ruled = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in ruled)


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
    paired: Annotated[
        bool, typer.Option("--paired", help="Differences of settings, seed by seed, too.")
    ] = False,
) -> None:
    """Print the table."""
    shown = versions.dvc(Path(), "exp", "show", "--json", "--num", str(commits))
    found, lacking = experiments(json.loads(shown))
    if not found:
        raise InputError("no experiment at this commit has scores: docs/experiments.md")
    shown_scores = score or SHOWN
    check(found, shown_scores)
    rows = settings(found)
    typer.echo(table(rows, shown_scores, system=system))
    if paired:
        typer.echo(f"\n{differences(rows, shown_scores, system=system)}")
    if lacking:
        typer.echo(f"\nWithout scores, waiting or failed: {', '.join(lacking)}")


if __name__ == "__main__":
    guarded(lambda: typer.run(main))
