"""The grammar between schema and GBNF: six kinds of expression over Unicode characters, and named rules.

What holds: a Repeat's item is never empty, so that neither llama.cpp nor a matcher loops on nothing; after `pruned`
every rule derives at least one finite text and is reachable from the root.
What it does not do: parse. The tests' slow matcher and generator walk these same values.
"""

from dataclasses import dataclass, field
from typing import Final

from dayspring.engines.llamacpp.grammar.charset import CharSet
from dayspring.engines.llamacpp.grammar.limits import MAX_RULES, too_complex

__all__ = ["EMPTY", "NEVER", "Alt", "Chars", "Expr", "Grammar", "Lit", "Ref", "Repeat", "Seq", "alt", "opt", "seq"]


@dataclass(frozen=True, slots=True)
class Lit:
    """Exactly this text; empty: nothing."""

    text: str


@dataclass(frozen=True, slots=True)
class Chars:
    """One code point of the set."""

    ranges: CharSet


@dataclass(frozen=True, slots=True)
class Seq:
    items: tuple["Expr", ...]


@dataclass(frozen=True, slots=True)
class Alt:
    """Any of the items; none: no text at all."""

    items: tuple["Expr", ...]


@dataclass(frozen=True, slots=True)
class Ref:
    name: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """`least` to `most` items, one after the other; most None: any number."""

    item: "Expr"
    least: int
    most: int | None


Expr = Lit | Chars | Seq | Alt | Ref | Repeat

EMPTY: Final = Lit("")
NEVER: Final = Alt(())


def seq(*parts: Expr) -> Expr:
    """One after the other, flattened; NEVER if a part is."""
    items: list[Expr] = []
    for part in parts:
        if part == NEVER:
            return NEVER
        for item in part.items if isinstance(part, Seq) else (part,):
            if item == EMPTY:
                continue
            if isinstance(item, Lit) and items and isinstance(items[-1], Lit):
                items[-1] = Lit(items[-1].text + item.text)
            else:
                items.append(item)
    if not items:
        return EMPTY
    return items[0] if len(items) == 1 else Seq(tuple(items))


def alt(*parts: Expr) -> Expr:
    """Any of these, flattened, duplicates dropped."""
    items: dict[Expr, None] = {}
    for part in parts:
        for item in part.items if isinstance(part, Alt) else (part,):
            items[item] = None
    return next(iter(items)) if len(items) == 1 else Alt(tuple(items))


def opt(part: Expr) -> Expr:
    return alt(part, EMPTY)


@dataclass(slots=True)
class Grammar:
    """Named rules. `root` is the start once the compiler is done."""

    rules: dict[str, Expr] = field(default_factory=dict)
    root: str = "root"

    def add(self, rule: Expr, name: str = "r") -> Ref:
        """A new rule under a name of its own."""
        ref = self.reserve(name)
        self.rules[ref.name] = rule
        return ref

    def reserve(self, name: str = "r") -> Ref:
        """A name whose rule is set later: for recursion."""
        if len(self.rules) >= MAX_RULES:
            raise too_complex(f"it needs over {MAX_RULES} grammar rules")
        full = f"{name}{len(self.rules)}"
        self.rules[full] = NEVER
        return Ref(full)

    def productive(self) -> set[str]:
        """Names of the rules that derive a finite text."""
        return _productive(self.rules)

    def pruned(self) -> "Grammar":
        """Without the alternatives that derive no finite text and the rules nothing refers to. An unsatisfiable
        grammar has the root NEVER."""
        productive = self.productive()
        kept = {name: _without_dead(rule, productive) for name, rule in self.rules.items()}
        reachable = {self.root}
        pending = [self.root]
        while pending:
            for name in _references(kept[pending.pop()]):
                if name not in reachable:
                    reachable.add(name)
                    pending.append(name)
        return Grammar({name: rule for name, rule in kept.items() if name in reachable}, self.root)


def _references(rule: Expr) -> list[str]:
    match rule:
        case Ref(name):
            return [name]
        case Seq(items) | Alt(items):
            return [name for item in items for name in _references(item)]
        case Repeat(item, _, _):
            return _references(item)
        case _:
            return []


def _productive(rules: dict[str, Expr]) -> set[str]:
    users: dict[str, list[str]] = {}
    for name, rule in rules.items():
        for used in _references(rule):
            users.setdefault(used, []).append(name)
    done: set[str] = set()
    pending = list(rules)
    while pending:
        name = pending.pop()
        if name not in done and _derives(rules[name], done):
            done.add(name)
            pending.extend(users.get(name, ()))
    return done


def _derives(rule: Expr, productive: set[str]) -> bool:
    match rule:
        case Ref(name):
            return name in productive
        case Seq(items):
            return all(_derives(item, productive) for item in items)
        case Alt(items):
            return any(_derives(item, productive) for item in items)
        case Repeat(item, least, _):
            return least == 0 or _derives(item, productive)
        case _:
            return True


def _without_dead(rule: Expr, productive: set[str]) -> Expr:
    match rule:
        case Ref(name):
            return rule if name in productive else NEVER
        case Seq(items):
            return seq(*(_without_dead(item, productive) for item in items))
        case Alt(items):
            return alt(*(_without_dead(item, productive) for item in items))
        case Repeat(item, least, most):
            inner = _without_dead(item, productive)
            if inner == NEVER:
                return EMPTY if least == 0 else NEVER
            return Repeat(inner, least, most)
        case _:
            return rule
