"""Limits on rate: never passed in any window, taken from all levels or none, given back, and never leaked."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dayspring.accounts.budgets import KEY, ORGANIZATION, PROJECT
from dayspring.accounts.limits import Admission, Limiter, limits_of, set_limits, with_limits
from dayspring.accounts.principals import Limit, Principal
from dayspring.accounts.service import Accounts, KeyRequest
from dayspring.core.errors import Busy, InvalidRequest
from dayspring.store.database import Database
from dayspring.testing.clock import FakeClock

MINUTE_NS = 60 * 10**9


def _principal(*limits: Limit, key_id: str = "key_a") -> Principal:
    return Principal("org", "proj", key_id, frozenset({"inference"}), limits=limits)


def _of_key(**values: int) -> Limit:
    return Limit("key_a", KEY, **values)


def _drain(limiter: Limiter, principal: Principal, tokens: int = 1) -> int:
    """How many are let in at this instant."""
    count = 0
    while True:
        try:
            limiter.enter(principal, tokens)
        except Busy:
            return count
        count += 1


def test_a_minute_is_let_in_at_once_and_then_one_for_each_that_is_refilled() -> None:
    clock = FakeClock()
    limiter, principal = Limiter(clock), _principal(_of_key(requests_per_minute=60))
    assert _drain(limiter, principal) == 60
    clock.advance(1)
    assert _drain(limiter, principal) == 1
    clock.advance(30)
    assert _drain(limiter, principal) == 30
    clock.advance(3600)
    assert _drain(limiter, principal) == 60


def test_a_refusal_names_limit_and_level_and_a_wait_that_suffices() -> None:
    clock = FakeClock()
    limiter, principal = Limiter(clock), _principal(Limit("proj", PROJECT, 7))
    _drain(limiter, principal)
    with pytest.raises(Busy) as caught:
        limiter.enter(principal, 1)
    assert "project proj is 7 requests a minute" in caught.value.message
    wait = caught.value.retry_after_s
    assert wait is not None
    assert 60 / 7 <= wait <= 60 / 7 + 0.1
    clock.advance(wait)
    limiter.enter(principal, 1)


def test_the_longest_wait_of_all_levels_is_told() -> None:
    clock = FakeClock()
    fast, slow = Limit("org", ORGANIZATION, 60), Limit("key_a", KEY, 1)
    limiter = Limiter(clock)
    _drain(limiter, _principal(fast, key_id="key_b"))
    clock.advance(1)
    limiter.enter(_principal(fast, slow), 1)
    with pytest.raises(Busy) as caught:
        limiter.enter(_principal(fast, slow), 1)
    assert caught.value.retry_after_s == 60


def test_tokens_that_were_not_used_come_back_and_more_are_owed() -> None:
    clock = FakeClock()
    limiter, principal = Limiter(clock), _principal(_of_key(tokens_per_minute=600))
    admission = limiter.enter(principal, 600)
    with pytest.raises(Busy):
        limiter.enter(principal, 1)
    admission.leave(100)
    assert _left(limiter, principal) == 500
    admission.leave(0)
    assert _left(limiter, principal) == 500, "the second time nothing happens"
    limiter.enter(principal, 500).leave(700)
    assert _left(limiter, principal) == 0
    clock.advance(20)
    assert _left(limiter, principal) == 0, "what was taken over the bound is owed"
    clock.advance(1)
    assert _left(limiter, principal) == 10


def test_a_request_over_the_whole_limit_is_told_that_it_never_fits() -> None:
    limiter, principal = Limiter(FakeClock()), _principal(_of_key(tokens_per_minute=100, concurrency=1))
    with pytest.raises(InvalidRequest, match="can never fit") as caught:
        limiter.enter(principal, 101)
    assert caught.value.retry_after_s is None
    limiter.enter(principal, 100)


def test_a_key_without_limits_is_always_let_in_and_remembered_nowhere() -> None:
    limiter, principal = Limiter(FakeClock()), _principal()
    for _ in range(1000):
        limiter.enter(principal, 10**12).leave(10**12)
    assert limiter.standing(principal) is None
    assert not limiter._owners


def test_the_tightest_level_is_told() -> None:
    limiter = Limiter(FakeClock())
    principal = _principal(Limit("org", ORGANIZATION, 10, 1000), Limit("key_a", KEY, 5, 2000))
    limiter.enter(principal, 500)
    standing = limiter.standing(principal)
    assert standing is not None
    assert standing.requests is not None
    assert standing.tokens is not None
    assert (standing.requests.limit, standing.requests.remaining, standing.requests.reset_ns) == (5, 4, 12 * 10**9)
    assert (standing.tokens.limit, standing.tokens.remaining, standing.tokens.reset_ns) == (1000, 500, 30 * 10**9)


def test_idle_owners_are_forgotten_and_busy_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dayspring.accounts.limits._MAX_KNOWN", 10)
    clock = FakeClock()
    limiter = Limiter(clock)
    busy = Limit("busy", KEY, concurrency=1)
    admission = limiter.enter(_principal(busy), 1)
    for number in range(1000):
        limiter.enter(_principal(Limit(f"key_{number}", KEY, 60)), 1).leave(1)
        clock.advance(1)
        assert len(limiter._owners) <= 21
    with pytest.raises(Busy):
        limiter.enter(_principal(busy), 1)
    admission.leave(1)
    limiter.enter(_principal(busy), 1)


def test_each_of_several_servers_enforces_its_part_and_the_largest_request_still_fits() -> None:
    clock = FakeClock()
    principal = _principal(_of_key(requests_per_minute=60, tokens_per_minute=6000, concurrency=9))
    servers = [Limiter(clock) for _ in range(3)]
    for limiter in servers:
        limiter.share(3)
    assert sum(_drain(limiter, principal) for limiter in servers) == 9, "concurrency"
    big = _principal(Limit("key_b", KEY, tokens_per_minute=6000))
    servers[0].enter(big, 6000)
    with pytest.raises(Busy) as caught:
        servers[0].enter(big, 1)
    assert (caught.value.retry_after_s or 0) > 60, "the rest is paid off first"


_limits = st.lists(
    st.tuples(
        st.sampled_from([("org", ORGANIZATION), ("proj", PROJECT), ("key_a", KEY), ("key_b", KEY)]),
        st.none() | st.integers(1, 20), st.none() | st.integers(1, 300), st.none() | st.integers(1, 4),
    ),
    min_size=1, max_size=4, unique_by=lambda limit: limit[0][0],
)  # fmt: skip
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), st.sampled_from(["key_a", "key_b"]), st.integers(0, 300)),
        st.tuples(st.just("leave"), st.integers(0, 50), st.integers(0, 300)),
        st.tuples(st.just("advance"), st.integers(0, 30 * 10**9), st.just(0)),
    ),
    max_size=60,
)


class _Run:
    """One history, and what it let in."""

    def __init__(self, limits: list[Limit]) -> None:
        self.clock = FakeClock()
        self.limiter = Limiter(self.clock)
        self.limits = limits
        self.inside: list[tuple[Admission, Principal, int]] = []
        self.admitted: list[tuple[int, Principal, list[int]]] = []
        """When, who, and the tokens it counts for in the end."""

    def principal(self, key_id: str) -> Principal:
        return _principal(*(limit for limit in self.limits if not limit.owner_id.startswith("key_")
                            or limit.owner_id == key_id), key_id=key_id)  # fmt: skip

    def enter(self, key_id: str, tokens: int) -> None:
        principal = self.principal(key_id)
        self.limiter.standing(principal)  # refills, as entering does
        before = self._state()
        try:
            admission = self.limiter.enter(principal, tokens)
        except (Busy, InvalidRequest):
            assert self._state() == before, "a refusal takes nothing"
            return
        used = [tokens]
        self.inside.append((admission, principal, len(self.admitted)))
        self.admitted.append((self.clock.monotonic_ns(), principal, used))

    def leave(self, index: int, tokens: int) -> None:
        if self.inside:
            admission, _, number = self.inside.pop(index % len(self.inside))
            used = self.admitted[number][2]
            used[0] = min(tokens, used[0])
            admission.leave(used[0])
            admission.leave(10**6)

    def check(self) -> None:
        for limit in self.limits:
            mine = [(at, used[0]) for at, who, used in self.admitted if limit in who.limits]
            running = sum(limit in who.limits for _, who, _ in self.inside)
            assert limit.concurrency is None or running <= limit.concurrency
            assert self._running(limit) == running or not limit_is_known(self.limiter, limit)
            for first, (start, _) in enumerate(mine):
                for last in range(first, len(mine)):
                    span = mine[last][0] - start
                    if limit.requests_per_minute is not None:
                        count = last - first + 1
                        assert count * MINUTE_NS <= limit.requests_per_minute * (MINUTE_NS + span)
                    if limit.tokens_per_minute is not None:
                        tokens = sum(used for _, used in mine[first : last + 1])
                        assert tokens * MINUTE_NS <= limit.tokens_per_minute * (MINUTE_NS + span)

    def _running(self, limit: Limit) -> int:
        owner = self.limiter._owners.get(limit.owner_id)
        return 0 if owner is None else owner.running

    def _state(self) -> dict[str, tuple[int, int, int]]:
        return {
            owner_id: (owner.requests.missing, owner.tokens.missing, owner.running)
            for owner_id, owner in self.limiter._owners.items()
            if owner.running or owner.requests.missing or owner.tokens.missing
        }


def limit_is_known(limiter: Limiter, limit: Limit) -> bool:
    return limit.owner_id in limiter._owners


@settings(max_examples=150, deadline=None)
@given(_limits, _steps)
def test_no_history_passes_a_limit_or_leaks_a_place(limits: list[tuple], steps: list[tuple]) -> None:  # type: ignore[type-arg]
    run = _Run([Limit(owner, level, *values) for (owner, level), *values in limits])
    for verb, first, second in steps:
        if verb == "enter":
            run.enter(first, second)
        elif verb == "leave":
            run.leave(first, second)
        else:
            run.clock.advance(ns=first)
        run.check()
    for admission, *_ in run.inside:
        admission.leave(0)
    run.inside.clear()
    run.check()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10**9), st.integers(1, 10**6))
def test_what_is_left_is_what_can_be_taken(limit: int, taken: int) -> None:
    limiter, principal = Limiter(FakeClock()), _principal(_of_key(tokens_per_minute=limit))
    limiter.enter(principal, min(taken, limit))
    left = _left(limiter, principal)
    assert left == limit - min(taken, limit)
    limiter.enter(principal, left)
    with pytest.raises(Busy):
        limiter.enter(principal, 1)


def _left(limiter: Limiter, principal: Principal) -> int:
    standing = limiter.standing(principal)
    assert standing is not None
    assert standing.tokens is not None
    return standing.tokens.remaining


async def test_limits_travel_with_the_key_and_are_seen_at_once_by_the_process_that_set_them(
    database: Database,
) -> None:
    clock = FakeClock()
    accounts = Accounts(database, clock)
    made = await accounts.bootstrap("USD")
    assert made is not None
    new = await accounts.create_key(KeyRequest(name="limited"))
    assert (await accounts.authenticate(new.token)).limits == ()
    limit = Limit(new.key.id, KEY, 5)
    await database.write(lambda connection: set_limits(connection, limit))
    assert (await accounts.authenticate(new.token)).limits == (), "what was believed a moment ago"
    accounts.authentication.forget(new.key.id)
    assert (await accounts.authenticate(new.token)).limits == (limit,)
    above = Limit(made.key.organization_id, ORGANIZATION, None, 100, 2)
    await database.write(lambda connection: set_limits(connection, above))
    clock.advance(1.1)
    found = await accounts.authenticate(new.token)
    assert found.limits == (above, limit)
    assert await database.read(lambda connection: with_limits(connection, made.key.principal).limits) == (above,)
    await database.write(lambda connection: set_limits(connection, Limit(limit.owner_id, KEY)))
    assert await database.read(lambda connection: limits_of(connection, limit.owner_id)) == ()
    with pytest.raises(InvalidRequest):
        await database.write(lambda connection: set_limits(connection, Limit("x", KEY, 0)))
