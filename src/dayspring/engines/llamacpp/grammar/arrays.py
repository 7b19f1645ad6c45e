"""JSON arrays in a conjunction: leading items of their own, then items alike, in a chain of rules."""

from collections.abc import Callable
from typing import Any, Final

from dayspring.engines.llamacpp.grammar.expr import EMPTY, NEVER, Expr, Grammar, Lit, Repeat, alt, seq
from dayspring.engines.llamacpp.grammar.limits import refuse
from dayspring.engines.llamacpp.grammar.schema import Node
from dayspring.engines.llamacpp.grammar.shape import Shape
from dayspring.engines.llamacpp.grammar.strings import bounds
from dayspring.engines.llamacpp.grammar.values import COMMA, listed, one_of

__all__ = ["Arrays", "Items"]

Goal = list[Node]
_PERMUTED: Final = 7
"""Distinct values of a uniqueItems array that come in any order; more come in the order listed."""
_MAX_DISTINCT: Final = 256


class Items:
    """What the array keywords of one conjunction say of each place."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.unique = any(node.get("uniqueItems", bool, "a boolean") for node in shape.nodes)
        self.first: list[Goal] = []
        prefixes = {node.key: _prefix(node) for node in shape.nodes}
        rests = {node.key: _rest(node) for node in shape.nodes}
        for index in range(max(map(len, prefixes.values()), default=0)):
            goal: Goal = []
            for prefix, rest in zip(prefixes.values(), rests.values(), strict=True):
                if index < len(prefix):
                    goal.append(prefix[index])
                elif rest is not None:
                    goal.append(rest)
            self.first.append(goal)
        self.rest: Goal = [rest for rest in rests.values() if rest is not None]
        self.least, self.most = bounds(shape, "minItems", "maxItems")
        self._end(shape)

    def _end(self, shape: Shape) -> None:
        """Lower `most` to where no further item is valid, or none is spoken of."""
        places = [*self.first, self.rest]
        end = next((index for index, goal in enumerate(places) if any(node.schema is False for node in goal)), None)
        closed = any(
            node.has("unevaluatedItems") and node.schema["unevaluatedItems"] is not True for node in shape.nodes
        )
        if end is None and self.first and not self.rest and (closed or self.least <= len(self.first)):
            # Items after the prefix may be anything; where none is needed, none is generated.
            end = len(self.first)
        if end is not None:
            self.most = end if self.most is None else min(self.most, end)
        for node in shape.with_keyword("unevaluatedItems"):
            if node.schema["unevaluatedItems"] is not True and (
                node.schema["unevaluatedItems"] is not False or len(shape.nodes) > 1
            ):
                raise refuse("unevaluatedItems", node.pointer, "it depends on more than one schema")
            if node.schema["unevaluatedItems"] is False and not self.first and not self.rest:
                self.most = 0


def _prefix(node: Node) -> list[Node]:
    """prefixItems, or the list form of `items` before draft 2020-12."""
    for keyword in ("prefixItems", "items"):
        if node.has(keyword) and isinstance(node.schema[keyword], list):
            return [node.child(keyword, index) for index in range(len(node.schema[keyword]))]
    return []


def _rest(node: Node) -> Node | None:
    if node.has("items") and isinstance(node.schema["items"], list):
        return node.child("additionalItems") if node.has("additionalItems") else None
    return node.child("items") if node.has("items") else None


class Arrays:
    """Array rules of one grammar. `value` gives the rule for an item; `finite` its values if they are few."""

    def __init__(
        self, grammar: Grammar, value: Callable[[Goal], Expr], finite: Callable[[Goal], list[Any] | None]
    ) -> None:
        self._grammar = grammar
        self._value = value
        self._finite = finite

    def rules(self, shape: Shape) -> Expr:
        items = Items(shape)
        if items.most is not None and items.most < items.least:
            return NEVER
        if items.unique and (items.most is None or items.most > 1):
            return seq(Lit("["), self._unique(shape, items), Lit("]"))
        if not items.first:
            inner = EMPTY if items.most == 0 else listed(self._value(items.rest), items.least, items.most)
            return seq(Lit("["), inner, Lit("]"))
        return seq(Lit("["), self._from(items, 0), Lit("]"))

    def _from(self, items: Items, start: int) -> Expr:
        """The items of the array from place `start`, built from its end."""
        count = len(items.first)
        most = items.most
        rest: Expr = EMPTY
        if most is None or most > count:
            following = seq(COMMA, self._value(items.rest))
            rest = Repeat(following, max(items.least - count, 0), None if most is None else most - count)
        for index in range(min(count, count if most is None else most) - 1, start - 1, -1):
            here = seq(COMMA if index else EMPTY, self._value(items.first[index]), rest)
            rest = self._grammar.add(here if items.least > index else alt(here, EMPTY), "i")
        return rest

    def _unique(self, shape: Shape, items: Items) -> Expr:
        pointer = next(node.pointer for node in shape.with_keyword("uniqueItems"))
        values = None if items.first else self._finite(items.rest)
        if values is None or len(values) > _MAX_DISTINCT:
            raise refuse("uniqueItems", pointer, "the items are not few enough values to list")
        most = len(values) if items.most is None else min(items.most, len(values))
        if most < items.least:
            return NEVER
        if len(values) <= _PERMUTED:
            return self._any_order(values, items.least, most)
        return self._in_order(values, items.least, most)

    def _any_order(self, values: list[Any], least: int, most: int) -> Expr:
        """Rules by the set of values used already."""
        known: dict[int, Expr] = {}
        for used in sorted(range(1 << len(values)), key=int.bit_count, reverse=True):
            had = used.bit_count()
            branches: list[Expr] = [EMPTY] if had >= least else []
            if had < most:
                left = [index for index in range(len(values)) if not used >> index & 1]
                branches += [
                    seq(COMMA if had else EMPTY, one_of([values[index]]), known[used | 1 << index]) for index in left
                ]
            known[used] = self._grammar.add(alt(*branches), "u")
        return known[0]

    def _in_order(self, values: list[Any], least: int, most: int) -> Expr:
        """Any selection, in the order listed: fewer texts than are valid, and a number of rules that stays small."""
        counts = least > 0 or most < len(values)
        known: dict[tuple[int, int], Expr] = {}
        for at in range(len(values), -1, -1):
            for had in range(at, -1, -1) if counts else (0, 1) if at else (0,):
                branches: list[Expr] = [EMPTY] if had >= least else []
                if at < len(values):
                    if had < most:
                        after = known[at + 1, had + 1 if counts else 1]
                        branches.append(seq(COMMA if had else EMPTY, one_of([values[at]]), after))
                    branches.append(known[at + 1, had])
                known[at, had] = self._grammar.add(alt(*branches), "u")
        return known[0, 0]
