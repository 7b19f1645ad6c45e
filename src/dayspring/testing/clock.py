"""A clock that a test moves."""

__all__ = ["FakeClock"]


class FakeClock:
    """Stands still until told otherwise."""

    def __init__(self, time_ns: int = 1_700_000_000_000_000_000) -> None:
        self._time_ns = time_ns
        self._monotonic_ns = 0

    def time_ns(self) -> int:
        return self._time_ns

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def advance(self, seconds: float = 0, *, ns: int = 0) -> None:
        """Moves both times on, by seconds and nanoseconds."""
        step_ns = round(seconds * 1e9) + ns
        self._time_ns += step_ns
        self._monotonic_ns += step_ns
