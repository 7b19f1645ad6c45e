"""The slow, obviously right twin of llama.cpp's grammar engine: a matcher and a generator over the same expressions."""

import random
from typing import Any

import jsonschema
from jsonschema import FormatChecker
from jsonschema.validators import validator_for

from dayspring.engines.llamacpp.grammar.expr import Alt, Chars, Expr, Grammar, Lit, Ref, Repeat, Seq
from dayspring.engines.llamacpp.grammar.formats import FORMATS


def validator(schema: Any) -> Any:
    """jsonschema's validator for the schema's own draft, asserting the formats we enforce."""
    kind = validator_for(schema, default=jsonschema.Draft202012Validator)
    checker = FormatChecker(())
    checker.checkers = {name: check for name, check in kind.FORMAT_CHECKER.checkers.items() if name in FORMATS}
    return kind(schema, format_checker=checker)


class Matcher:
    """Whether a text is in the grammar: all ends of each expression from each place, remembered."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar

    def accepts(self, text: str) -> bool:
        self.text = text
        self.known: dict[tuple[Expr, int], frozenset[int]] = {}
        return len(text) in self.ends(Ref(self.grammar.root), 0)

    def ends(self, rule: Expr, at: int) -> frozenset[int]:
        key = (rule, at)
        if key not in self.known:
            self.known[key] = self._ends(rule, at)
        return self.known[key]

    def _ends(self, rule: Expr, at: int) -> frozenset[int]:
        match rule:
            case Lit(text):
                return frozenset({at + len(text)} if self.text.startswith(text, at) else ())
            case Chars(ranges):
                inside = at < len(self.text) and any(low <= ord(self.text[at]) <= high for low, high in ranges)
                return frozenset({at + 1} if inside else ())
            case Ref(name):
                return self.ends(self.grammar.rules[name], at)
            case Alt(items):
                return frozenset().union(*(self.ends(item, at) for item in items))
            case Seq(items):
                places = frozenset({at})
                for item in items:
                    places = frozenset().union(*(self.ends(item, place) for place in places))
                return places
            case Repeat(item, least, most):
                found: set[int] = set()
                places, count, seen = {at}, 0, set()
                while places and (most is None or count <= most) and (count <= least or frozenset(places) not in seen):
                    seen.add(frozenset(places))
                    if count >= least:
                        found |= places
                    places = set().union(*(self.ends(item, place) for place in places))
                    count += 1
                return frozenset(found)
        raise AssertionError(rule)


class Generator:
    """Random texts of a grammar; past `depth` rules, the shortest way out."""

    def __init__(self, grammar: Grammar, seed: int, depth: int = 30) -> None:
        self.grammar = grammar
        self.random = random.Random(seed)
        self.depth = depth
        self.cost = dict.fromkeys(grammar.rules, 10**9)
        changed = True
        while changed:
            changed = False
            for name, rule in grammar.rules.items():
                cost = self.least(rule) + 1
                if cost < self.cost[name]:
                    self.cost[name], changed = cost, True

    def least(self, rule: Expr) -> int:
        match rule:
            case Ref(name):
                return self.cost[name]
            case Seq(items):
                return min(10**9, sum(self.least(item) for item in items))
            case Alt(items):
                return min(self.least(item) for item in items)
            case Repeat(item, count, _):
                return min(10**9, self.least(item) * count)
            case Lit(text):
                return 1 if text else 0
            case _:
                return 1

    def text(self) -> str:
        out: list[str] = []
        todo: list[tuple[Expr, int]] = [(Ref(self.grammar.root), 0)]
        while todo:
            rule, depth = todo.pop()
            match rule:
                case Lit(text):
                    out.append(text)
                case Chars(ranges):
                    low, high = self.random.choice(ranges)
                    top = min(high, low + 300) if self.random.random() < 0.8 else high
                    out.append(chr(self.random.randint(low, top)))
                case Ref(name):
                    todo.append((self.grammar.rules[name], depth + 1))
                case Seq(items):
                    todo.extend((item, depth) for item in reversed(items))
                case Alt(items):
                    usual = depth < self.depth
                    todo.append((self.random.choice(items) if usual else min(items, key=self.least), depth))
                case Repeat(item, least, most):
                    room = 6 if most is None else min(6, most - least)
                    count = least + (
                        self.random.choice((0, room, self.random.randint(0, room))) if depth < self.depth else 0
                    )
                    todo.extend((item, depth + 1) for _ in range(count))
        return "".join(out)
