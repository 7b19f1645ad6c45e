"""Where engines come in: the entry-point group `dayspring.engines`, ours by the same door as anyone's.

A plug-in that cannot be imported is kept by name with its reason: `dayspring doctor` shows it, and asking for it says
what is wrong. Two engines of one name are an error that names both.
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from dayspring.contracts.engine import Engine
from dayspring.core.errors import DayspringError, NotFound, Unavailable

__all__ = ["GROUP", "broken_engines", "engine", "engines"]

GROUP = "dayspring.engines"


@cache
def _found() -> tuple[dict[str, Engine], dict[str, str]]:
    engines: dict[str, Engine] = {}
    broken: dict[str, str] = {}
    origin: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in origin and origin[entry.name].value != entry.value:
            broken[entry.name] = f"both {origin[entry.name].value} and {entry.value} are named {entry.name!r}"
            engines.pop(entry.name, None)
            continue
        origin[entry.name] = entry
        try:
            engines[entry.name] = entry.load()
        except Exception as error:  # noqa: BLE001 - a stranger's module may raise anything; it is reported by name
            broken[entry.name] = f"{entry.value}: {type(error).__name__}: {error}"
    return engines, broken


def engines() -> dict[str, Engine]:
    """Every engine that could be imported, by name."""
    return dict(_found()[0])


def broken_engines() -> dict[str, str]:
    """Why each of the others could not be, by name. For the operator's eyes only."""
    return dict(_found()[1])


def engine(name: str) -> Engine:
    """The engine of this name. Raises Unavailable for a broken one, NotFound for none."""
    found, broken = _found()
    if name in found:
        return found[name]
    error: DayspringError
    if name in broken:
        error = Unavailable(f"Engine {name!r} could not be loaded", "Run 'dayspring doctor' for the reason.")
    else:
        error = NotFound("engine", name, f"Installed: {', '.join(sorted(found)) or 'none'}.")
    raise error
