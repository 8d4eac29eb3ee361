"""What the gate decided, for a terminal or a page (`stages/_gate.py` decides)."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

_VERBS = {"promote": "Promoted", "refuse": "Refused"}
_HEADER = ("metric", "better", "champion", "challenger", "gain", "interval", "may lose", "verdict")


def line(decision: Mapping[str, Any]) -> str:
    """The decision and its reason in one line.

    Args:
        decision: As `decision.json` has it.
    """
    return f"{decision['decision']}: {decision['reason']}"


def rows(decision: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Every metric that was compared: a header, then a row for each, the deciding one first.

    A gain is positive where the challenger is better. Without a champion it is what the challenger
    is beyond the value that `promote.first` asks for.
    """
    compared = decision["metrics"]
    order = sorted(compared, key=lambda name: name != decision["metric"])
    return [_HEADER, *(_row(name, compared[name]) for name in order)]


def table(decision: Mapping[str, Any]) -> str:
    """The same in columns, with what it rests on."""
    cells = rows(decision)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
    return "\n".join([*lines, "", _basis(decision)])


def page(decision: Mapping[str, Any], *, gallery: str) -> str:
    """The decision in a line above the evaluation's own page, which is shown within it.

    Args:
        decision: As `decision.json` has it.
        gallery: Address of the evaluation's page, as seen from this one.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = resources.files("mssync.render").joinpath("promotion.html").read_text("utf-8")
    return environment.from_string(source).render(
        decision=decision,
        verb=_VERBS[decision["decision"]],
        rows=rows(decision),
        basis=_basis(decision),
        gallery=gallery,
    )


def _basis(decision: Mapping[str, Any]) -> str:
    by = decision["scored_by"]
    return (
        f"{decision['sequences']} sequences of {decision['speakers']} speakers; intervals of "
        f"{decision['confidence']:.0%}; version {by['metric_version']} of the metrics, test "
        f"set {by['test_set'][:12]}, judges {by['judges'][:12]}"
    )


def _row(name: str, found: Mapping[str, Any]) -> tuple[str, ...]:
    interval = "n/a" if found["low"] is None else f"{found['low']:+.3g} to {found['high']:+.3g}"
    asked = found.get("asked")
    return (
        name,
        found["better"],
        _number(found.get("champion")) if asked is None else f"(asked: {asked:g})",
        _number(found["challenger"]),
        "n/a" if found["gain"] is None else f"{found['gain']:+.3g}",
        interval,
        f"{found['tolerance']:g}" if asked is None else "",
        found["verdict"],
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3g}"
