"""What is provable of schemas without an instance from the model: membership, few values, exclusion.

Each answer errs to one side: `accepts` says yes only to what is valid, `finite` lists only what is valid, `excludes`
says yes only where no instance satisfies both. Depth is bounded; past the bound the answer is the safe one.
"""

from typing import Any, Final

from dayspring.engines.llamacpp.grammar.arrays import Items
from dayspring.engines.llamacpp.grammar.expand import Expander
from dayspring.engines.llamacpp.grammar.limits import Budget
from dayspring.engines.llamacpp.grammar.numbers import enumerated, range_of
from dayspring.engines.llamacpp.grammar.objects import Properties
from dayspring.engines.llamacpp.grammar.schema import Node, fraction
from dayspring.engines.llamacpp.grammar.shape import Shape, canonical, type_of
from dayspring.engines.llamacpp.grammar.strings import Strings, bounds

__all__ = ["Judge"]

Goal = list[Node]
_DEPTH: Final = 8


class Judge:
    """What needs a goal's conjunctions asks the expander for them, from below or from above."""

    def __init__(self, strings: Strings, budget: Budget, expander: Expander) -> None:
        self._strings = strings
        self._budget = budget
        self._expander = expander

    def accepts(self, goal: Goal, value: Any, depth: int = _DEPTH) -> bool:
        """Whether this value is surely valid against all schemas of the goal."""
        return depth > 0 and any(self.satisfies(Shape(nodes), value, depth) for nodes in self._expander.expand(goal))

    def satisfies(self, shape: Shape, value: Any, depth: int = _DEPTH) -> bool:
        """The same, of a conjunction."""
        self._budget.spend()
        kind = type_of(value)
        if kind not in shape.types or canonical(value, shape.pointer) in shape.excluded:
            return False
        if shape.value_keys is not None and canonical(value, "") not in shape.value_keys:
            return False
        match kind:
            case "string":
                return self._strings.accepts(shape, value)
            case "number":
                return range_of(shape).holds(fraction(value))
            case "array":
                return self._array(shape, value, depth)
            case "object":
                return self._object(shape, value, depth)
            case _:
                return True

    def _array(self, shape: Shape, value: list[Any], depth: int) -> bool:
        least, most = bounds(shape, "minItems", "maxItems")
        if len(value) < least or (most is not None and len(value) > most):
            return False
        items = Items(shape)
        if shape.with_keyword("unevaluatedItems"):
            return False
        if items.unique and len({canonical(item, "") for item in value}) < len(value):
            return False
        goals = [items.first[index] if index < len(items.first) else items.rest for index in range(len(value))]
        return all(self.accepts(goal, item, depth - 1) for goal, item in zip(goals, value, strict=True))

    def _object(self, shape: Shape, value: dict[str, Any], depth: int) -> bool:
        least, most = bounds(shape, "minProperties", "maxProperties")
        if len(value) < least or (most is not None and len(value) > most):
            return False
        properties = Properties(shape, self._strings, self.accepts)
        if any(name not in value for name in properties.required):
            return False
        for name, inner in value.items():
            goal = properties.goal(name)
            if goal is None or not self.accepts(goal, inner, depth - 1):
                return False
        return True

    def finite(self, goal: Goal) -> list[Any] | None:
        """All values of a goal, where they are listed by enum, const, boolean, null or a short integer range."""
        found: dict[str, Any] = {}
        for nodes in self._expander.expand(goal):
            shape = Shape(nodes)
            values = shape.values
            if values is None:
                if not shape.with_keyword("type") or shape.types - {"boolean", "null", "number"}:
                    return None
                values = [value for value in (True, False, None) if type_of(value) in shape.types]
                if "number" in shape.types:
                    numbers = enumerated(range_of(shape))
                    if numbers is None:
                        return None
                    values += numbers
            found.update((canonical(value, ""), value) for value in values if self.satisfies(shape, value))
        return list(found.values())

    def excludes(self, left: Goal, right: Goal, depth: int = 4) -> bool:
        """Whether no instance satisfies both goals."""
        if depth <= 0:
            return False
        lefts, rights = ([Shape(nodes) for nodes in self._expander.expand(side, above=True)] for side in (left, right))
        return all(self._excludes(one, other, depth) for one in lefts for other in rights)

    def _excludes(self, left: Shape, right: Shape, depth: int) -> bool:
        self._budget.spend()
        if left.value_keys is not None and right.value_keys is not None:
            return left.value_keys.isdisjoint(right.value_keys)
        if left.values is not None or right.values is not None:
            listed, other = (left, right) if left.values is not None else (right, left)
            return all(self._rejects(other, value) for value in listed.values or ())
        return all(self._excludes_type(kind, left, right, depth) for kind in left.types & right.types)

    def _rejects(self, shape: Shape, value: Any) -> bool:
        """Whether the value is surely not valid."""
        kind = type_of(value)
        if kind not in shape.types or canonical(value, "") in shape.excluded:
            return True
        if kind == "number":
            return not range_of(shape).holds(fraction(value)) and not shape.with_keyword("multipleOf")
        if kind == "string":
            return not self._strings.language.accepts(self._strings.above(shape), value)
        return False

    def _excludes_type(self, kind: str, left: Shape, right: Shape, depth: int) -> bool:
        match kind:
            case "object":
                return self._excludes_objects(left, right, depth)
            case "number":
                return range_of(left).excludes(range_of(right))
            case "string":
                return self._excludes_strings(left, right)
            case "array":
                (low, high), (other_low, other_high) = (bounds(one, "minItems", "maxItems") for one in (left, right))
                if (high is not None and other_low > high) or (other_high is not None and low > other_high):
                    return True
                return bool(max(low, other_low)) and self.excludes(_first(left), _first(right), depth - 1)
            case _:
                return False

    def _excludes_strings(self, left: Shape, right: Shape) -> bool:
        if not (
            left.with_keyword("pattern", "maxLength", "minLength")
            and right.with_keyword("pattern", "maxLength", "minLength")
        ):
            return False
        return self._strings.excludes(left, right)

    def _excludes_objects(self, left: Shape, right: Shape, depth: int) -> bool:
        """A name that one of them requires and whose values exclude each other, or that the other forbids."""
        sides = [Properties(shape, self._strings, self.accepts) for shape in (left, right)]
        for name in dict.fromkeys(sides[0].required + sides[1].required):
            goals = [side.goal(name, sure=True) for side in sides]
            if goals[0] is None or goals[1] is None or self.excludes(goals[0], goals[1], depth - 1):
                return True
        return False


def _first(shape: Shape) -> Goal:
    items = Items(shape)
    return items.first[0] if items.first else items.rest
