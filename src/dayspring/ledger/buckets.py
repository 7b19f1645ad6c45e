"""Time buckets: which a query asks for, which are on its page, how SQL numbers them. UTC, aligned to their width."""

import re
from typing import TypeVar

import msgspec

from dayspring.core.errors import Malformed
from dayspring.ledger.report_values import Bucket, BucketPage, ReportQuery

__all__ = ["Window", "page_of", "window_of"]

R = TypeVar("R")

_WIDTHS_S = {"1m": 60, "1h": 3600, "1d": 86400}
_LIMITS = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}
"""Buckets on a page: by default, and at most; OpenAI's."""
_MAX_TIME_S = 9_000_000_000
"""In the year 2255: nanoseconds still fit 64 bits."""


class Window(msgspec.Struct, frozen=True):
    """What one page covers, in Unix seconds; both ends are multiples of the width."""

    start_s: int
    end_s: int
    width_s: int
    has_more: bool


def window_of(query: ReportQuery, now_s: int) -> Window:
    """Raises Malformed for a query without sense. The first bucket begins at or before `start_time`."""
    width = _WIDTHS_S[query.bucket_width]
    default, most = _LIMITS[query.bucket_width]
    limit = default if query.limit is None else query.limit
    if not 1 <= limit <= most:
        raise Malformed(f"limit is 1 to {most} for buckets of {query.bucket_width}.", location="limit")
    end = now_s + 1 if query.end_time is None else query.end_time
    start = query.start_time
    if query.page is not None:
        found = re.fullmatch(r"page_([0-9]{1,11})", query.page)
        if found is None:
            raise Malformed("page is not a next_page of ours. Send it as it came.", location="page")
        start = max(start, int(found[1]))
    if not 0 <= query.start_time <= _MAX_TIME_S or not 0 <= end <= _MAX_TIME_S or end <= query.start_time:
        raise Malformed("start_time is Unix seconds and lies before end_time. Correct them.", location="start_time")
    first, last = start // width, -(-end // width)
    stop = min(first + limit, last)
    return Window(first * width, max(first, stop) * width, width, stop < last)


def page_of(window: Window, results: dict[int, list[R]]) -> BucketPage[R]:
    """Every bucket of the window, also those without results. `results` is by the bucket's number since 1970."""
    data = [
        Bucket(start, start + window.width_s, results.get(start // window.width_s, []))
        for start in range(window.start_s, window.end_s, window.width_s)
    ]
    return BucketPage(data, window.has_more, f"page_{window.end_s}" if window.has_more else None)
