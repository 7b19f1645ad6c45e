"""Deterministic automata, and their form as grammar rules.

An automaton is a start state, a function that gives a state's edges, and a test for final states; states are any
hashable values. The rules are right-linear, one for each state that branches, so llama.cpp follows one stack for each
class of next characters.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final, Generic, TypeVar

from dayspring.engines.llamacpp.grammar.charset import CharSet, intersect, minus, of, union
from dayspring.engines.llamacpp.grammar.expr import EMPTY, NEVER, Chars, Expr, Grammar, Lit, alt, seq
from dayspring.engines.llamacpp.grammar.language import END, START, Language, Term
from dayspring.engines.llamacpp.grammar.limits import MAX_STATES, too_complex

__all__ = ["Automaton", "explore", "in_string", "of_language", "plain", "to_rules"]

State = TypeVar("State", bound=Hashable)
Edges = list[tuple[CharSet, State]]

_MUST_ESCAPE: Final = union(((0, 0x1F),), of('"\\'))
_SHORT: Final = {'"': '"', "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}


@dataclass(frozen=True, slots=True)
class Automaton(Generic[State]):
    """`edges[state]`: disjoint character sets and where they lead. Only states that reach a final one are kept."""

    start: State
    edges: dict[State, Edges[State]]
    final: frozenset[State]

    @property
    def is_empty(self) -> bool:
        return self.start not in self.edges


def explore(start: State, step: Callable[[State], Edges[State]], is_final: Callable[[State], bool]) -> Automaton[State]:
    """All states within reach. Raises UnsupportedParameter past MAX_STATES."""
    edges: dict[State, Edges[State]] = {}
    pending = [start]
    users: dict[State, list[State]] = {}
    while pending:
        state = pending.pop()
        if state in edges:
            continue
        if len(edges) >= MAX_STATES:
            raise too_complex(f"one of its strings or numbers needs over {MAX_STATES} automaton states")
        edges[state] = step(state)
        for _, target in edges[state]:
            users.setdefault(target, []).append(state)
            pending.append(target)
    final = frozenset(state for state in edges if is_final(state))
    alive: set[State] = set()
    back = list(final)
    while back:
        state = back.pop()
        if state not in alive:
            alive.add(state)
            back.extend(users.get(state, ()))
    kept = {state: [edge for edge in edges[state] if edge[1] in alive] for state in edges if state in alive}
    return Automaton(start, kept, final)


def of_language(language: Language, term: Term) -> Automaton[Term]:
    """The texts t for which START t END is in `term`."""

    def step(state: Term) -> Edges[Term]:
        cuts = sorted({cut for cut in state.cuts if 0 < cut < START} | {0, 0xD800, 0xE000, START})
        reached: dict[Term, CharSet] = {}
        for low, after in pairwise(cuts):
            if 0xD800 <= low < 0xE000:
                continue
            target = language.derive(state, low)
            if target is not language.never:
                reached[target] = (*reached.get(target, ()), (low, after - 1))
        return [(union(ranges), target) for target, ranges in reached.items()]

    def is_final(state: Term) -> bool:
        return language.derive(state, END).nullable

    return explore(language.derive(term, START), step, is_final)


def plain(chars: CharSet) -> Expr:
    """One character of the set, as it is."""
    if len(chars) == 1 and chars[0][0] == chars[0][1]:
        return Lit(chr(chars[0][0]))
    return Chars(chars)


@lru_cache(4096)
def in_string(chars: CharSet) -> Expr:
    """One character of the set as it stands between the quotes of a JSON string, in its shortest form."""
    raw = minus(chars, _MUST_ESCAPE)
    forms: list[Expr] = [plain(raw)] if raw else []
    short = [letter for char, letter in _SHORT.items() if intersect(chars, of(char))]
    if short:
        forms.append(seq(Lit("\\"), plain(of("".join(short)))))
    rest = minus(intersect(chars, ((0, 0x1F),)), of("".join(_SHORT)))
    for high in "01":
        digits = [f"{point:04x}"[3] for low, top in rest for point in range(low, top + 1) if f"{point:04x}"[2] == high]
        if digits:
            either = "".join(digits) + "".join(digit.upper() for digit in digits if digit.isalpha())
            forms.append(seq(Lit(f"\\u00{high}"), plain(of(either))))
    return alt(*forms) if forms else NEVER


def to_rules(grammar: Grammar, automaton: Automaton[State], show: Callable[[CharSet], Expr]) -> Expr:
    """The automaton's texts, each character written by `show`."""
    if automaton.is_empty:
        return NEVER
    indegree: dict[State, int] = {}
    for edges in automaton.edges.values():
        for _, target in edges:
            indegree[target] = indegree.get(target, 0) + 1

    def is_link(state: State) -> bool:
        return state not in automaton.final and indegree[state] == 1 and len(automaton.edges[state]) == 1

    named = {
        state: grammar.reserve("s")
        for state, edges in automaton.edges.items()
        if edges and (state == automaton.start or not is_link(state))
    }

    def follow(chars: CharSet, target: State) -> Expr:
        parts = [show(chars)]
        while target not in named and automaton.edges[target]:
            ((chars, target),) = automaton.edges[target]
            parts.append(show(chars))
        return seq(*parts, named[target]) if target in named else seq(*parts)

    for state, ref in named.items():
        branches: Iterable[Expr] = (follow(chars, target) for chars, target in automaton.edges[state])
        grammar.rules[ref.name] = alt(*branches, *((EMPTY,) if state in automaton.final else ()))
    return named.get(automaton.start, EMPTY)
