"""What still has to happen before the server is ready, in words an operator can read."""

__all__ = ["Readiness"]


class Readiness:
    """Named steps under way, and notes on those that ended badly without stopping the server."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}
        self._notes: list[str] = []

    def begin(self, step: str, detail: str = "") -> None:
        """A step begins, or moves on."""
        self._waiting[step] = detail

    def end(self, step: str, note: str = "") -> None:
        """A step is over; `note` says what an operator should know of it."""
        self._waiting.pop(step, None)
        if note:
            self._notes.append(note)

    def waiting(self) -> dict[str, str]:
        return dict(self._waiting)

    def notes(self) -> list[str]:
        return list(self._notes)
