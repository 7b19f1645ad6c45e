"""Periods of a budget: for ever, or a calendar day, week or month in UTC.

A day begins at 00:00 UTC, a week on Monday, a month on its first day; summer time and time zones play no part. A
period holds its first nanosecond and not the first of the next.
"""

import datetime
from enum import StrEnum

__all__ = ["Period", "boundaries"]

_DAY_NS = 86_400 * 10**9
_EPOCH = datetime.date(1970, 1, 1)
_FIRST_MONDAY = 4
"""1970-01-05, in days since the first."""


class Period(StrEnum):
    NONE = "none"
    """The budget is never refilled."""
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


def boundaries(period: Period, at_ns: int) -> tuple[int, int | None]:
    """Where the period around a time begins and ends, in ns since 1970; (0, None) for the one that never ends."""
    day = at_ns // _DAY_NS
    if period is Period.NONE:
        return 0, None
    if period is Period.DAY:
        return day * _DAY_NS, (day + 1) * _DAY_NS
    if period is Period.WEEK:
        first = day - (day - _FIRST_MONDAY) % 7
        return first * _DAY_NS, (first + 7) * _DAY_NS
    date = (_EPOCH + datetime.timedelta(days=day)).replace(day=1)
    after = (date + datetime.timedelta(days=31)).replace(day=1)
    return (date - _EPOCH).days * _DAY_NS, (after - _EPOCH).days * _DAY_NS
