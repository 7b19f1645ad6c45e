"""Slows down guessing: after a few attempts the next must wait, longer each time.

An attempt is counted before its outcome is known, so that many at once are as slow as one after the other. Three counts
are kept: of an account from one address (a person who mistypes is soon through), of the account from everywhere, and of
an address. What holds: the memory is bounded; the least recently used count goes first.
What it does not do: outlive the process, or span several servers.
"""

from collections import OrderedDict

import msgspec

from dayspring.contracts.clock import Clock
from dayspring.core.errors import Busy

__all__ = ["Throttle"]

_MOST = 20_000
_FORGOTTEN_S = 3600
"""A count that was not touched for so long begins anew."""


class Rule(msgspec.Struct, frozen=True):
    free: int
    """Attempts before the first wait."""
    longest_s: float
    """The wait doubles from one second up to this."""


_PAIR, _ACCOUNT, _ADDRESS, _DOOR = Rule(5, 900), Rule(50, 30), Rule(30, 300), Rule(100, 60)


class _Count(msgspec.Struct):
    attempts: int
    touched_ns: int


class Throttle:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def attempt(self, account: str, address: str) -> None:
        """Counts one. Raises Busy, counting nothing, where it comes too early."""
        self._count(self._rules(account, address))

    def knock(self, address: str) -> None:
        """Counts what an address begins without naming anybody. Raises as `attempt`."""
        self._count(((f"k {address}", _DOOR),))

    def _count(self, rules: tuple[tuple[str, Rule], ...]) -> None:
        wait_s = max(self._wait_s(name, rule) for name, rule in rules)
        if wait_s > 0:
            raise Busy("Too many attempts to sign in", retry_after_s=max(1, round(wait_s)))
        now_ns = self._clock.monotonic_ns()
        for name, _ in rules:
            count = self._counts.setdefault(name, _Count(0, now_ns))
            count.attempts += 1
            count.touched_ns = now_ns
            self._counts.move_to_end(name)
        while len(self._counts) > _MOST:
            self._counts.popitem(last=False)

    def succeeded(self, account: str, address: str) -> None:
        """Whoever was admitted begins anew from that address."""
        for name, rule in self._rules(account, address):
            if rule is _PAIR:
                self._counts.pop(name, None)
            elif name in self._counts:
                self._counts[name].attempts = max(0, self._counts[name].attempts - 1)

    def _rules(self, account: str, address: str) -> tuple[tuple[str, Rule], ...]:
        return (f"p {account} {address}", _PAIR), (f"a {account}", _ACCOUNT), (f"h {address}", _ADDRESS)

    def _wait_s(self, name: str, rule: Rule) -> float:
        """Seconds until the next attempt may come; 0 or less for now."""
        count = self._counts.get(name)
        if count is None:
            return 0
        since_s = (self._clock.monotonic_ns() - count.touched_ns) / 1e9
        if since_s >= _FORGOTTEN_S:
            del self._counts[name]
            return 0
        over = count.attempts - rule.free
        return 0 if over < 0 else min(rule.longest_s, 2.0 ** min(over, 30)) - since_s
