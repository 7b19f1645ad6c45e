"""The circuit breaker, on a clock that stands still."""

from dayspring.engines.upstream.breaker import Breaker
from dayspring.testing.clock import FakeClock


def opened(clock: FakeClock, threshold: int = 3) -> Breaker:
    breaker = Breaker(clock, threshold=threshold, pause_s=2)
    for _ in range(threshold):
        assert breaker.allow()
        breaker.failed()
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(FakeClock(), threshold=3, pause_s=2)
    for fails in (True, True, False, True, True):
        assert breaker.allow()
        breaker.failed() if fails else breaker.succeeded()
    assert breaker.allow()
    breaker.failed()
    assert not breaker.allow()


def test_one_probe_passes_after_the_pause_and_its_success_closes() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.advance(1.9)
    assert not breaker.allow()
    assert round(breaker.wait_s(), 3) == 0.1
    clock.advance(0.1)
    assert breaker.allow()
    assert not breaker.allow(), "a second probe beside the first"
    breaker.succeeded()
    assert breaker.allow()
    assert breaker.allow()


def test_a_probe_that_fails_doubles_the_pause_up_to_a_minute() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    for pause_s in (2, 4, 8, 16, 32, 60, 60):
        clock.advance(pause_s - 0.01)
        assert not breaker.allow()
        clock.advance(0.01)
        assert breaker.allow()
        breaker.failed()


def test_an_abandoned_probe_lets_the_next_one_pass() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.advance(2)
    assert breaker.allow()
    breaker.abandoned()
    assert breaker.allow()


def test_requests_that_were_under_way_do_not_lengthen_the_pause() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.advance(1)
    breaker.failed()
    assert breaker.wait_s() == 1.0


def test_success_after_closing_starts_the_pause_anew() -> None:
    clock = FakeClock()
    breaker = opened(clock, threshold=1)
    clock.advance(2)
    assert breaker.allow()
    breaker.failed()
    clock.advance(4)
    assert breaker.allow()
    breaker.succeeded()
    breaker.failed()
    assert breaker.wait_s() == 2.0
