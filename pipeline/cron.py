"""When a schedule comes: cron expressions as Kubeflow reads them, in words and as times.

Kubeflow's scheduler has six fields, seconds first. It takes five as well, but reads them from the
seconds on: `0 3 * * 1`, Mondays at three elsewhere, is minute three of every hour in January there.
So five fields become six here, before they are sent.
"""

import calendar
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from mssync.errors import InputError

_MONTHS = [name.lower() for name in calendar.month_abbr]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_DAY_NAMES = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_LONGEST_YEARS = 5  # the scheduler looks no further


@dataclass(frozen=True)
class _Kind:
    """A field: what it is called, and which values it takes."""

    name: str
    lowest: int
    highest: int
    names: tuple[str, ...] = ()

    def allowed(self) -> str:
        named = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
        return f"{self.lowest} to {self.highest}{named}"


_KINDS = (
    _Kind("second", 0, 59),
    _Kind("minute", 0, 59),
    _Kind("hour", 0, 23),
    _Kind("day of the month", 1, 31),
    _Kind("month", 1, 12, tuple(_MONTHS[1:])),
    _Kind("day of the week", 0, 6, tuple(_DAYS)),
)


@dataclass(frozen=True)
class _Field:
    """Which values a field takes.

    Attributes:
        kind: Which field it is.
        values: In ascending order.
        star: A part of it begins with `*` or `?`. Of the two fields for days, both must hold if one
            is so, and else either.
        step: Distance of the values where it was written `*/step`, else 0.
    """

    kind: _Kind
    values: tuple[int, ...]
    star: bool
    step: int = 0

    @property
    def every(self) -> bool:
        return len(self.values) == self.kind.highest - self.kind.lowest + 1


@dataclass(frozen=True)
class Cron:
    """A schedule.

    Attributes:
        text: Six fields, seconds first, as Kubeflow takes them.
    """

    text: str
    _fields: Mapping[str, _Field]

    def words(self) -> str:
        """What it means, in English."""
        days = self._days()
        month = self._fields["month"]
        if not month.every:
            days += f" in {_named(month, calendar.month_name.__getitem__)}"
        return f"{self._times()}, {days}, in UTC"

    def upcoming(self, after: datetime, count: int) -> list[datetime]:
        """The next times.

        Args:
            after: They are later than this.
            count: How many; fewer where the scheduler would not find more.
        """
        found = list[datetime]()
        days = self._dates(after)
        for day in days:
            for moment in self._moments(day):
                if moment > after:
                    found.append(moment)
                if len(found) == count:
                    return found
        return found

    def _dates(self, after: datetime) -> Iterator[datetime]:
        day = after.replace(hour=0, minute=0, second=0, microsecond=0)
        for _ in range(366 * _LONGEST_YEARS):
            if self._on(day):
                yield day
            day += timedelta(days=1)

    def _on(self, day: datetime) -> bool:
        date, weekday = self._fields["day of the month"], self._fields["day of the week"]
        on_date, on_weekday = day.day in date.values, day.isoweekday() % 7 in weekday.values
        # where both are restricted, either will do
        either = (
            on_date or on_weekday if not (date.star or weekday.star) else on_date and on_weekday
        )
        return day.month in self._fields["month"].values and either

    def _moments(self, day: datetime) -> Iterator[datetime]:
        for hour in self._fields["hour"].values:
            for minute in self._fields["minute"].values:
                for second in self._fields["second"].values:
                    yield day.replace(hour=hour, minute=minute, second=second)

    def _times(self) -> str:
        second, minute, hour = (self._fields[name] for name in ("second", "minute", "hour"))
        if len(hour.values) * len(minute.values) * len(second.values) <= 6:
            times = self._moments(datetime(2000, 1, 1))
            return f"at {_listed(f'{each:%H:%M:%S}'.removesuffix(':00') for each in times)}"
        parts = [_part(field) for field in (second, minute, hour)]
        if second.values == (0,):
            parts = parts[1:]
        if hour.every:
            parts = parts[:-1]
        return " of ".join(parts)

    def _days(self) -> str:
        date, weekday = self._fields["day of the month"], self._fields["day of the week"]
        both = date.star or weekday.star
        if not both and (date.every or weekday.every):
            return "every day"
        said = list[str]()
        if not date.every:
            said.append(f"on day {_named(date, str)} of the month")
        if not weekday.every:
            said.append(f"on {_named(weekday, _DAY_NAMES.__getitem__)}")
        return (" if it is also " if both else " or ").join(said) or "every day"


def parse(text: str) -> Cron:
    """Read an expression of five or six fields.

    Each field is a list, joined by commas, of values, ranges `a-b`, `*`, and each of these with a
    step, `*/15`. Months and days have names, too. Where both days are restricted, either will do.

    Args:
        text: Minute, hour, day of the month, month, day of the week; seconds before them, or 0.

    Raises:
        InputError: If it cannot be read, or never comes; naming the field.
    """
    written = text.split()
    if len(written) not in (5, 6):
        raise InputError(
            f"cron {text!r:.60}: expected five fields (minute, hour, day of the month, "
            f"month, day of the week), or six with the second before them, found {len(written)}: "
            "for instance '0 3 * * mon', in quotes, for Mondays at three"
        )
    if len(written) == 5:
        written = ["0", *written]
    fields = {
        kind.name: _field(kind, field, text) for kind, field in zip(_KINDS, written, strict=True)
    }
    found = Cron(" ".join(written), fields)
    if not found.upcoming(datetime(2024, 1, 1), 1):
        raise InputError(f"cron {text!r} never comes: no such day is in any of those months")
    return found


def _field(kind: _Kind, written: str, text: str) -> _Field:
    values = set[int]()
    for part in written.split(","):
        values.update(_values(kind, part, text))
    whole = re.fullmatch(r"[*?](?:/(\d+))?", written)
    return _Field(
        kind,
        tuple(sorted(values)),
        star=any(part[0] in "*?" for part in written.split(",")),
        step=int(whole[1] or 0) if whole else 0,
    )


def _values(kind: _Kind, part: str, text: str) -> range:
    found = re.fullmatch(r"(?:[*?]|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>\d+))?", part)
    if not found:
        raise _wrong(kind, part, text)
    first, last = kind.lowest, kind.highest
    if found["first"]:
        first = _value(kind, found["first"], part, text)
        if found["last"]:
            last = _value(kind, found["last"], part, text)
        elif not found["step"]:
            last = first
    if first > last or found["step"] == "0":
        raise _wrong(kind, part, text)
    return range(first, last + 1, int(found["step"] or 1))


def _value(kind: _Kind, word: str, part: str, text: str) -> int:
    if word.lower() in kind.names:
        return kind.names.index(word.lower()) + kind.lowest
    if not word.isdecimal() or not kind.lowest <= int(word) <= kind.highest:
        raise _wrong(kind, part, text)
    return int(word)


def _wrong(kind: _Kind, part: str, text: str) -> InputError:
    return InputError(
        f"cron {text!r}: the {kind.name} is {kind.allowed()}, a range of them that ascends, or *, "
        f"each with a step such as */2; found {part!r}"
    )


def _part(field: _Field) -> str:
    name = field.kind.name
    if field.every:
        return f"every {name}"
    if field.step and (field.kind.highest + 1) % field.step == 0:
        return f"every {field.step} {name}s"
    plural = "s" if len(field.values) > 1 else ""
    return f"{name}{plural} {_named(field, str)}"


def _named(field: _Field, name: Callable[[int], str]) -> str:
    first, last = field.values[0], field.values[-1]
    if last - first == len(field.values) - 1 > 1:
        return f"{name(first)} to {name(last)}"
    return _listed(map(name, field.values))


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
