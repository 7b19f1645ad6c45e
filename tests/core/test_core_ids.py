"""Ids sort in the order they were made, whatever the clock does."""

import threading
import time

import pytest

from dayspring.core.ids import new_id


def test_ids_of_one_millisecond_sort_in_the_order_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns() + 10**9
    monkeypatch.setattr(time, "time_ns", lambda: now)
    made = [new_id("req") for _ in range(1000)]
    assert made == sorted(set(made))
    assert {one[:14] for one in made} == {made[0][:14]}, "they stay within their millisecond"


def test_a_clock_set_back_does_not_set_ids_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_id("req")
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert new_id("req") > before


def test_threads_never_share_an_id() -> None:
    made: list[list[str]] = [[] for _ in range(4)]

    def make(into: list[str]) -> None:
        into.extend(new_id("req") for _ in range(2000))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one for into in made for one in into}) == 8000
    assert all(into == sorted(into) for into in made)
