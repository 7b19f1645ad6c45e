"""Shares of a device's time add up to it exactly, and are equal at each instant."""

from hypothesis import given
from hypothesis import strategies as st

from dayspring.compute.meter import DeviceMeter, Share
from dayspring.testing.clock import FakeClock

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "end", "load", "unload", "take", "look"]), st.integers(0, 5), st.integers(0, 997)
    ),
    max_size=60,
)


@given(STEPS)
def test_busy_shares_sum_to_the_busy_time_and_with_the_idle_shares_to_the_loaded_time(
    steps: list[tuple[str, int, int]],
) -> None:
    clock = FakeClock()
    meter = DeviceMeter(clock)
    running: list[Share] = []
    ended: list[Share] = []
    loaded: set[str] = set()
    idle = 0
    busy_ns = loaded_ns = 0
    for verb, which, ns in steps:
        clock.advance(ns=ns)
        busy_ns += ns if running else 0
        loaded_ns += ns if running or loaded else 0
        if verb == "begin":
            running.append(meter.begin())
        elif verb == "end" and running:
            share = running.pop(which % len(running))
            meter.end(share)
            meter.end(share)
            ended.append(share)
        elif verb == "load":
            loaded.add(f"m{which}")
            meter.loaded(f"m{which}")
        elif verb == "unload":
            loaded.discard(f"m{which}")
            meter.unloaded(f"m{which}")
        elif verb == "take":
            idle += sum(ns for _, ns in meter.take_idle())
        elif running:
            meter.used_ns(running[which % len(running)])
    for share in running:
        meter.end(share)
    for model in loaded:
        meter.unloaded(model)
    idle += sum(ns for _, ns in meter.take_idle())
    assert meter.totals_ns() == (busy_ns, loaded_ns)
    assert sum(meter.used_ns(share) for share in running + ended) == busy_ns
    assert idle == loaded_ns - busy_ns


def test_two_calls_share_only_the_time_they_both_run() -> None:
    clock = FakeClock()
    meter = DeviceMeter(clock)
    first = meter.begin()
    clock.advance(ns=100)
    second = meter.begin()
    clock.advance(ns=50)
    meter.end(first)
    clock.advance(ns=30)
    meter.end(second)
    clock.advance(ns=1000)
    assert (meter.used_ns(first), meter.used_ns(second)) == (125, 55)


def test_idle_time_is_told_once_and_in_equal_parts() -> None:
    clock = FakeClock()
    meter = DeviceMeter(clock)
    meter.loaded("a")
    clock.advance(ns=10)
    meter.loaded("b")
    clock.advance(ns=20)
    call = meter.begin()
    clock.advance(ns=500)
    meter.end(call)
    assert dict(meter.take_idle()) == {"a": 20, "b": 10}
    assert meter.take_idle() == []
    clock.advance(ns=8)
    meter.unloaded("a")
    clock.advance(ns=5)
    assert dict(meter.take_idle()) == {"a": 4, "b": 9}
