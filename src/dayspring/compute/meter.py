"""Who used a device for how long: processor sharing by virtual time, in whole nanoseconds.

At each instant every one of the k calls that have begun on a device gets 1/k of its time, whichever model they belong
to; while none runs, every one of the m loaded models gets 1/m of the idle time. What a division leaves over is carried
to the next span, and to the last to leave, so that the shares add up exactly to the time that passed: the sum of all
busy shares and all idle shares is the time during which at least one model was loaded.

What it does not do: know what a device does. A call counts from `begin` to `end`; one that waits has not begun.
"""

from dataclasses import dataclass, field

from dayspring.contracts.clock import Clock

__all__ = ["DeviceMeter", "Share"]


@dataclass(slots=True, eq=False)
class Share:
    """One holder's part of a device's time, in nanoseconds."""

    settled_ns: int = 0
    """Time of the spans that are over."""
    since: int | None = None
    """Virtual time at which the running span started; None while there is none."""


@dataclass(slots=True)
class _Divided:
    """Time divided equally among its members, exactly."""

    members: set[Share] = field(default_factory=set)
    virtual_ns: int = 0
    """What one member present from the start would have got."""
    carry_ns: int = 0
    """Passed, but too little for one nanosecond each: less than the number of members."""

    def advance(self, elapsed_ns: int) -> None:
        each, self.carry_ns = divmod(elapsed_ns + self.carry_ns, len(self.members))
        self.virtual_ns += each

    def join(self, share: Share) -> None:
        share.since = self.virtual_ns
        self.members.add(share)

    def leave(self, share: Share) -> None:
        if share not in self.members:
            return
        share.settled_ns += self.so_far(share)
        share.since = None
        self.members.remove(share)
        if not self.members:
            share.settled_ns += self.carry_ns
            self.carry_ns = 0

    def so_far(self, share: Share) -> int:
        return 0 if share.since is None else self.virtual_ns - share.since


class DeviceMeter:
    """The time of one device. Not thread-safe: used from the server's event loop only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls = _Divided()
        self._models = _Divided()
        self._loaded: dict[str, Share] = {}
        self._unbilled: dict[str, int] = {}
        self._last_ns = clock.monotonic_ns()
        self._busy_ns = 0
        self._loaded_ns = 0

    def loaded(self, model: str) -> None:
        """A model is ready on this device: its idle time counts from now."""
        self._advance()
        if model not in self._loaded:
            self._loaded[model] = share = Share()
            self._models.join(share)

    def unloaded(self, model: str) -> None:
        """It is gone; idle time not yet taken stays to be taken."""
        self._advance()
        share = self._loaded.pop(model, None)
        if share is not None:
            self._models.leave(share)
            self._keep(model, share)

    def begin(self) -> Share:
        """A call starts to compute."""
        self._advance()
        share = Share()
        self._calls.join(share)
        return share

    def end(self, share: Share) -> None:
        """It computes no more. Ending twice changes nothing."""
        self._advance()
        self._calls.leave(share)

    def used_ns(self, share: Share) -> int:
        """What a call has used until now."""
        self._advance()
        return share.settled_ns + self._calls.so_far(share)

    def totals_ns(self) -> tuple[int, int]:
        """(time with at least one call, time with at least one model loaded or call running)."""
        self._advance()
        return self._busy_ns, self._loaded_ns

    def take_idle(self) -> list[tuple[str, int]]:
        """(model, nanoseconds) of idle time since the last call of this function; nothing is told twice."""
        self._advance()
        for model, share in self._loaded.items():
            share.settled_ns += self._models.so_far(share)
            share.since = self._models.virtual_ns
            self._keep(model, share)
        taken, self._unbilled = self._unbilled, {}
        return list(taken.items())

    def _keep(self, model: str, share: Share) -> None:
        if share.settled_ns:
            self._unbilled[model] = self._unbilled.get(model, 0) + share.settled_ns
            share.settled_ns = 0

    def _advance(self) -> None:
        now_ns = self._clock.monotonic_ns()
        elapsed_ns, self._last_ns = now_ns - self._last_ns, now_ns
        if self._calls.members:
            self._calls.advance(elapsed_ns)
            self._busy_ns += elapsed_ns
            self._loaded_ns += elapsed_ns
        elif self._models.members:
            self._models.advance(elapsed_ns)
            self._loaded_ns += elapsed_ns
