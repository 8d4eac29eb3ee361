"""Cron expressions: five and six fields, words, times, and what is wrong with a wrong one."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest

from mssync.errors import InputError
from pipeline import cron

SATURDAY = datetime(2026, 11, 28, 8, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "sent", "words", "first", "second"),
    [
        ("0 3 * * 1", "0 0 3 * * 1", "at 03:00, on Monday", "11-30 03:00:00", "12-07 03:00:00"),
        ("0 3 * * *", "0 0 3 * * *", "at 03:00, every day", "11-29 03:00:00", "11-30 03:00:00"),
        ("*/15 * * * *", "0 */15 * * * *", "every 15 minutes", "11-28 08:15:00", "11-28 08:30:00"),
        ("30 0 3 1 * *", "30 0 3 1 * *", "at 03:00:30, on day 1", "12-01 03:00:30", None),
        ("0 9-17 * * mon-fri", "0 0 9-17 * * mon-fri", "of hours 9 to 17, on Monday to Friday",
         "11-30 09:00:00", "11-30 10:00:00"),
        ("0 */6 * * *", "0 0 */6 * * *", "at 00:00, 06:00, 12:00 and 18:00", "11-28 12:00:00",
         "11-28 18:00:00"),
        ("5 4 * jan,JUL 0", "0 5 4 * jan,JUL 0", "on Sunday in January and July", "01-03 04:05:00",
         "01-10 04:05:00"),
        ("0 0 13 * 5", "0 0 0 13 * 5", "on day 13 of the month or on Friday", "12-04 00:00:00",
         "12-11 00:00:00"),
        ("0 0 */2 * 1", "0 0 0 */2 * 1", "if it is also on Monday", "12-07 00:00:00",
         "12-21 00:00:00"),
        ("0 0 1-31 * 1", "0 0 0 1-31 * 1", "at 00:00, every day", "11-29 00:00:00",
         "11-30 00:00:00"),
        ("10 * * * * *", "10 * * * * *", "second 10 of every minute", "11-28 08:00:10",
         "11-28 08:01:10"),
        ("0 22/1 * * ?", "0 0 22/1 * * ?", "at 22:00 and 23:00, every day", "11-28 22:00:00",
         "11-28 23:00:00"),
    ],
)  # fmt: skip
def test_an_expression_is_told_in_words_and_times(written, sent, words, first, second):
    found = cron.parse(written)
    assert found.text == sent
    assert words in found.words()
    times = [f"{each:%m-%d %H:%M:%S}" for each in found.upcoming(SATURDAY, 2)]
    assert times[0] == first
    assert second is None or times[1] == second


def test_five_fields_do_not_become_minute_three_of_every_hour_in_january():
    """Kubeflow reads five fields from the second on."""
    times = cron.parse("0 3 * * 1").upcoming(SATURDAY, 3)
    assert [each.hour for each in times] == [3, 3, 3]
    assert {(later - sooner).days for sooner, later in pairwise(times)} == {7}


def test_a_leap_day_is_found():
    (found,) = cron.parse("0 0 29 2 *").upcoming(SATURDAY, 1)
    assert found == datetime(2028, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("0 3 * *", "expected five fields .* found 4"),
        ("0 0 3 * * 1 2026", "found 7"),
        ("", "found 0"),
        ("60 3 * * 1", "the minute is 0 to 59.* found '60'"),
        ("0 24 * * 1", "the hour is 0 to 23.* found '24'"),
        ("0 3 0 * *", "the day of the month is 1 to 31.* found '0'"),
        ("0 3 * 13 *", "the month is 1 to 12, or jan to dec.* found '13'"),
        ("0 3 * * 7", "the day of the week is 0 to 6, or sun to sat.* found '7'"),
        ("0 3 * * someday", "the day of the week .* found 'someday'"),
        ("99 0 3 * * 1", "the second is 0 to 59.* found '99'"),
        ("5-1 * * * *", "that ascends.* found '5-1'"),
        ("*/0 * * * *", "found '\\*/0'"),
        ("1,,2 * * * *", "the minute .* found ''"),
        ("0 0 30 2 *", "never comes"),
        ("@daily", "expected five fields"),
    ],
)
def test_a_wrong_expression_is_told_by_its_field(written, told):
    with pytest.raises(InputError, match=told):
        cron.parse(written)
