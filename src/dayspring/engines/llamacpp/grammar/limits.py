"""What a schema may cost, and the sentences that refuse one.

What holds: every loop of the compiler spends from one Budget, so a hostile schema ends as a plain 400 and never as a
hang. A refusal names the keyword and the JSON pointer of the schema that holds it, and ends with what to do.
"""

from typing import Final

from dayspring.core.errors import InvalidRequest, UnsupportedParameter

__all__ = ["Budget", "bad_schema", "refuse", "too_complex", "unsatisfiable"]

PARAM: Final = "response_format.json_schema.schema"

MAX_DEPTH: Final = 96
"""Nesting of the schema's own JSON."""
MAX_NODES: Final = 20_000
"""JSON values in the schema."""
MAX_TEXT: Final = 400_000
"""Characters of the schema as compact JSON."""
MAX_WORK: Final = 60_000
"""Steps of the compiler, about a second of one core; the largest of the real schemas in the tests takes 36,000."""
MAX_RULES: Final = 6_000
MAX_STATES: Final = 3_000
"""States of one automaton: a pattern, a set of keys, a number range."""
MAX_BRANCHES: Final = 96
"""Alternatives one schema may expand to when its anyOf, oneOf and if are multiplied out."""
MAX_LEAST: Final = 10_000
"""Largest minItems or minLength."""
MAX_MOST: Final = 1_000_000
"""Larger upper bounds are lowered to this, which accepts fewer texts and never a wrong one."""


def refuse(keyword: str, pointer: str, reason: str) -> UnsupportedParameter:
    """The 400 for a keyword that cannot be enforced exactly. `pointer` is that of the schema object holding it."""
    where = f"{pointer}/{keyword}"
    return UnsupportedParameter(
        f"{PARAM}{where}",
        f"the schema keyword {keyword!r} at '#{where}' cannot be enforced exactly: {reason}. "
        "Take it out of the schema and check it on the answer.",
    )


def bad_schema(pointer: str, reason: str) -> InvalidRequest:
    """The 400 for what is no JSON Schema."""
    return InvalidRequest(f"The schema at '#{pointer}' is not valid: {reason}.", param=f"{PARAM}{pointer}")


def unsatisfiable(pointer: str = "") -> InvalidRequest:
    return InvalidRequest(
        f"The schema at '#{pointer}' is unsatisfiable: no finite JSON text is valid against it. "
        "Loosen the constraints that exclude one another.",
        param=f"{PARAM}{pointer}",
    )


def too_complex(reason: str) -> UnsupportedParameter:
    return UnsupportedParameter(PARAM, f"the schema is too large to compile: {reason}. Send a smaller schema.")


class Budget:
    """Steps left for one compilation."""

    def __init__(self, steps: int = MAX_WORK) -> None:
        self.left = steps

    def spend(self, steps: int = 1) -> None:
        """Raises UnsupportedParameter when the schema has used its share."""
        self.left -= steps
        if self.left < 0:
            raise too_complex("its patterns, ranges and alternatives multiply to too many cases")
