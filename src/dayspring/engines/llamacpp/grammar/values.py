"""Exact JSON values, and any value at all."""

import json
from collections.abc import Iterable
from typing import Any, Final

from dayspring.engines.llamacpp.grammar.expr import EMPTY, NEVER, Expr, Grammar, Lit, Ref, Repeat, alt, opt, seq

__all__ = ["COLON", "COMMA", "AnyValue", "key_text", "listed", "one_of"]

_MAX_NESTING: Final = 24
SPACE: Final = opt(Lit(" "))
COLON: Final = seq(Lit(":"), SPACE)
COMMA: Final = seq(Lit(","), SPACE)

ANY_DEPTH: Final = 5
"""Containers inside one another where the schema allows any value: a bound, so that a small model comes to an end."""


def key_text(name: str) -> str:
    """A key as it stands after its opening quote, with the closing one."""
    return _text(name)[1:]


def one_of(values: Iterable[Any]) -> Expr:
    """Exactly these values as compact JSON, in a tree of common prefixes."""
    return _tree(sorted({_text(value) for value in values}), 0, 0)


def _text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # Half a surrogate pair can be written as an escape only.
    return json.dumps(value, separators=(",", ":")) if any("\ud800" <= char <= "\udfff" for char in text) else text


def _tree(texts: list[str], start: int, nesting: int) -> Expr:
    """`texts`, sorted, which agree up to `start`."""
    if not texts:
        return NEVER
    if len(texts) == 1 or nesting > _MAX_NESTING:
        return alt(*(Lit(text[start:]) for text in texts))
    first, last = texts[0], texts[-1]
    common = start
    while common < min(len(first), len(last)) and first[common] == last[common]:
        common += 1
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(text[common : common + 1], []).append(text)
    branches = [_tree(group, common, nesting + 1) if head else EMPTY for head, group in groups.items()]
    return seq(Lit(first[start:common]), alt(*branches))


def listed(item: Expr, least: int, most: int | None) -> Expr:
    """`least` to `most` items parted by commas, without brackets."""
    if most is not None and most < max(least, 1):
        return EMPTY if least == 0 else NEVER
    more = Repeat(seq(COMMA, item), max(least - 1, 0), None if most is None else most - 1)
    some = seq(item, more)
    return some if least else opt(some)


class AnyValue:
    """Rules for any JSON value, made when first asked for."""

    def __init__(self, grammar: Grammar, char: Ref, number: Expr) -> None:
        self._grammar = grammar
        self._char = char
        self._number = number
        self._levels: dict[int, Ref] = {}

    def rule(self, depth: int = ANY_DEPTH) -> Ref:
        known = self._levels.get(depth)
        if known is None:
            scalar = [self.string(), self._number, Lit("true"), Lit("false"), Lit("null")]
            containers = [self.object(depth), self.array(depth)] if depth else []
            known = self._levels[depth] = self._grammar.add(alt(*containers, *scalar), "any")
        return known

    def string(self) -> Expr:
        return seq(Lit('"'), Repeat(self._char, 0, None), Lit('"'))

    def key(self) -> Expr:
        """After the opening quote."""
        return seq(Repeat(self._char, 1, 64), Lit('"'))

    def object(self, depth: int = ANY_DEPTH) -> Expr:
        member = self._grammar.add(seq(Lit('"'), self.key(), COLON, self.rule(depth - 1)), "member")
        return seq(Lit("{"), listed(member, 0, None), Lit("}"))

    def array(self, depth: int = ANY_DEPTH) -> Expr:
        return seq(Lit("["), listed(self.rule(depth - 1), 0, None), Lit("]"))
