"""Regular languages over code points, as terms with derivatives: union, intersection, complement, counting are exact.

A term is made only by a `Language`, which gives the same object for the same term, so terms compare by identity.
Besides code points a term may read two marks, START before a string and END after it: `^` and `$` are those marks.
The derivative of a term by a character is the term of what may follow (Brzozowski 1964).
"""

from typing import Final

from dayspring.engines.llamacpp.grammar.charset import ALL, CharSet, contains, union
from dayspring.engines.llamacpp.grammar.limits import Budget

__all__ = ["END", "START", "Language", "Term"]

START: Final = 0x110000
END: Final = 0x110001
_MARKED: Final[CharSet] = (*ALL[:-1], (0xE000, END))


class Term:
    """One language. `kind` says which of its parts count; `nullable`: it holds the empty string."""

    __slots__ = ("cuts", "kind", "least", "most", "nullable", "number", "parts", "ranges", "words")

    def __init__(self, number: int, kind: str, content: "Content", nullable: bool, cuts: frozenset[int]) -> None:
        self.number = number
        self.kind = kind
        self.parts, self.ranges, self.words, self.least, self.most = content
        self.nullable = nullable
        self.cuts = cuts
        """Code points where the derivative may change: constant from one cut up to the next."""


Content = tuple[tuple[Term, ...], CharSet, frozenset[str], int, int | None]
"""Inner terms, the set of a "chars", the strings of a "words", the counts of a "repeat"."""


class Language:
    """Makes terms, and remembers them and their derivatives, for one compilation."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._known: dict[tuple[str, Content], Term] = {}
        self._derived: dict[tuple[int, int], Term] = {}
        self.never = self.chars(())
        self.empty = self._make("empty", (), True, frozenset())
        self.any_char = self.chars(ALL)
        self.any_text = self.repeat(self.any_char, 0, None)
        self.anything = self.repeat(self.chars(_MARKED), 0, None)
        self.start = self.chars(((START, START),))
        self.end = self.chars(((END, END),))

    def _make(
        self,
        kind: str,
        parts: tuple[Term, ...],
        nullable: bool,
        cuts: frozenset[int],
        *,
        ranges: CharSet = (),
        words: frozenset[str] = frozenset(),
        counts: tuple[int, int | None] = (0, None),
    ) -> Term:
        content = (parts, ranges, words, *counts)
        found = self._known.get((kind, content))
        if found is None:
            self.budget.spend()
            found = self._known[kind, content] = Term(len(self._known), kind, content, nullable, cuts)
        return found

    def chars(self, ranges: CharSet) -> Term:
        cuts = frozenset(cut for low, high in ranges for cut in (low, high + 1))
        return self._make("chars", (), False, cuts, ranges=ranges)

    def text(self, text: str) -> Term:
        return self.words(frozenset((text,)))

    def words(self, words: frozenset[str]) -> Term:
        """Exactly these strings."""
        if not words:
            return self.never
        if words == {""}:
            return self.empty
        self.budget.spend(len(words))
        firsts = frozenset(cut for word in words if word for cut in (ord(word[0]), ord(word[0]) + 1))
        return self._make("words", (), "" in words, firsts, words=words)

    def seq(self, *terms: Term) -> Term:
        made = self.empty
        for term in reversed(terms):
            made = self._pair(term, made)
        return made

    def _pair(self, left: Term, right: Term) -> Term:
        if left is self.never or right is self.never:
            return self.never
        if left is self.empty:
            return right
        if right is self.empty:
            return left
        if left.kind == "seq":
            first, rest = left.parts
            return self._pair(first, self._pair(rest, right))
        cuts = left.cuts | right.cuts if left.nullable else left.cuts
        return self._make("seq", (left, right), left.nullable and right.nullable, cuts)

    def alt(self, *terms: Term) -> Term:
        flat: dict[int, Term] = {}
        chars: CharSet = ()
        for term in terms:
            for one in term.parts if term.kind == "alt" else (term,):
                if one is self.anything:
                    return one
                if one.kind == "chars":
                    chars = union(chars, one.ranges)
                else:
                    flat[one.number] = one
        if chars:
            merged = self.chars(chars)
            flat[merged.number] = merged
        return self._many("alt", flat, self.never)

    def both(self, *terms: Term) -> Term:
        """Strings that are in all of these."""
        flat: dict[int, Term] = {}
        for term in terms:
            for one in term.parts if term.kind == "both" else (term,):
                if one is self.never:
                    return one
                if one is not self.anything:
                    flat[one.number] = one
        return self._many("both", flat, self.anything)

    def _many(self, kind: str, flat: dict[int, Term], none: Term) -> Term:
        if not flat:
            return none
        parts = tuple(flat[number] for number in sorted(flat))
        if len(parts) == 1:
            return parts[0]
        self.budget.spend(len(parts))
        nullable = any(part.nullable for part in parts) if kind == "alt" else all(part.nullable for part in parts)
        return self._make(kind, parts, nullable, frozenset().union(*(part.cuts for part in parts)))

    def negate(self, term: Term) -> Term:
        """All marked strings that are not in this."""
        if term.kind == "not":
            return term.parts[0]
        if term is self.never:
            return self.anything
        if term is self.anything:
            return self.never
        return self._make("not", (term,), not term.nullable, term.cuts)

    def repeat(self, term: Term, least: int, most: int | None) -> Term:
        if most is not None and most < least:
            return self.never
        if most == 0 or term is self.empty:
            return self.empty
        if term is self.never:
            return self.empty if least == 0 else self.never
        if least == most == 1:
            return term
        if term.nullable:
            least = 0
        return self._make("repeat", (term,), least == 0, term.cuts, counts=(least, most))

    def derive(self, term: Term, point: int) -> Term:
        """What may follow `point` in strings of `term`."""
        key = (term.number, point)
        found = self._derived.get(key)
        if found is None:
            self.budget.spend()
            found = self._derived[key] = self._derive(term, point)
        return found

    def _derive(self, term: Term, point: int) -> Term:
        match term.kind:
            case "chars":
                return self.empty if contains(term.ranges, point) else self.never
            case "words":
                if point >= START:
                    return self.never
                return self.words(frozenset(word[1:] for word in term.words if word and ord(word[0]) == point))
            case "seq":
                left, right = term.parts
                after = self._pair(self.derive(left, point), right)
                return self.alt(after, self.derive(right, point)) if left.nullable else after
            case "alt":
                return self.alt(*(self.derive(part, point) for part in term.parts))
            case "both":
                return self.both(*(self.derive(part, point) for part in term.parts))
            case "not":
                return self.negate(self.derive(term.parts[0], point))
            case "repeat":
                (inner,) = term.parts
                fewer = None if term.most is None else term.most - 1
                return self._pair(self.derive(inner, point), self.repeat(inner, max(term.least - 1, 0), fewer))
            case _:
                return self.never

    def accepts(self, term: Term, text: str) -> bool:
        """Whether START text END is in `term`."""
        for point in (START, *map(ord, text), END):
            term = self.derive(term, point)
        return term.nullable

    def searched(self, term: Term) -> Term:
        """The marked strings in which `term` is found somewhere."""
        return self.seq(self.anything, term, self.anything)

    def whole(self, term: Term) -> Term:
        """The marked strings whose text is in `term`."""
        return self.seq(self.start, term, self.end)
