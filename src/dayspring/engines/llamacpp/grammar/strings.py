"""JSON strings in a conjunction: length, pattern, format, and values that are kept out.

Length is counted in code points, and an escape or a surrogate pair is one. A string without pattern or format may write
any character as any of its escapes; one with them is written in its shortest form only.
"""

from typing import Final

from dayspring.core.errors import UnsupportedParameter
from dayspring.engines.llamacpp.grammar.automata import in_string, of_language, to_rules
from dayspring.engines.llamacpp.grammar.charset import ALL, minus, of, union
from dayspring.engines.llamacpp.grammar.expr import NEVER, Chars, Expr, Grammar, Lit, Ref, Repeat, alt, seq
from dayspring.engines.llamacpp.grammar.formats import FORMATS
from dayspring.engines.llamacpp.grammar.language import Language, Term
from dayspring.engines.llamacpp.grammar.limits import MAX_LEAST, MAX_MOST, refuse
from dayspring.engines.llamacpp.grammar.negate import DIFFERS
from dayspring.engines.llamacpp.grammar.patterns import Patterns
from dayspring.engines.llamacpp.grammar.schema import Node
from dayspring.engines.llamacpp.grammar.shape import Shape

__all__ = ["Strings", "bounds"]

_SLACK: Final = 256
"""With a pattern or format, a longer maxLength is lowered to minLength and this."""
_HEX: Final = Chars(of("0123456789abcdefABCDEF"))


def bounds(shape: Shape, least: str, most: str) -> tuple[int, int | None]:
    """The largest lower and smallest upper size that the nodes state. Raises UnsupportedParameter."""
    low, high = 0, None
    for node in shape.with_keyword(least, most):
        low = max(low, node.count(least) or 0)
        if low > MAX_LEAST:
            raise refuse(least, node.pointer, f"it is over {MAX_LEAST}")
        limit = node.count(most)
        if limit is not None:
            high = limit if high is None else min(high, limit)
    return low, None if high is None else min(high, MAX_MOST)


class Strings:
    """String rules of one grammar."""

    def __init__(self, grammar: Grammar, language: Language) -> None:
        self._grammar = grammar
        self.language = language
        self.patterns = Patterns(language)
        self._made: dict[int, Expr] = {}
        self._char: Ref | None = None

    def rules(self, shape: Shape) -> Expr:
        """Quoted JSON strings that the shape allows. Raises UnsupportedParameter."""
        term = self.below(shape)
        least, most = bounds(shape, "minLength", "maxLength")
        if term is not None:
            inside = self.inside(term)
            if inside == NEVER and most is not None and most > least + _SLACK:
                node = shape.with_keyword("maxLength")[0]
                raise refuse("maxLength", node.pointer, "with this pattern or format it needs too many states")
            return seq(Lit('"'), inside, Lit('"'))
        if most is not None and most < least:
            return NEVER
        return seq(Lit('"'), Repeat(self.char(), least, most), Lit('"'))

    def char(self) -> Ref:
        """One code point of any string."""
        if self._char is None:
            self._char = self._grammar.add(_any_char(), "char")
        return self._char

    def inside(self, term: Term) -> Expr:
        """What stands between the quotes for the texts of a marked language."""
        made = self._made.get(term.number)
        if made is None:
            made = self._made[term.number] = to_rules(self._grammar, of_language(self.language, term), in_string)
        return made

    def below(self, shape: Shape) -> Term | None:
        """Marked strings that surely satisfy the shape; None when only the length is constrained."""
        language = self.language
        least, most = bounds(shape, "minLength", "maxLength")
        terms = [self._format(node.schema["format"]) for node in shape.with_keyword("format")]
        found = [term for term in terms if term is not None]
        found += [self.patterns.below(*_pattern(node)) for node in shape.with_keyword("pattern")]
        for node in shape.with_keyword(DIFFERS):
            found.extend(
                language.negate(self.patterns.above(pattern, node.pointer, "not")) for pattern in node.schema[DIFFERS]
            )
        words = frozenset(value for value in shape.excluded.values() if isinstance(value, str))
        if words:
            found.append(language.negate(language.whole(language.words(words))))
        if not found:
            return None
        if least or most is not None:
            cap = most if most is None or most <= least + _SLACK else least + _SLACK
            found.append(language.whole(language.repeat(language.any_char, least, cap)))
        return language.both(*found)

    def above(self, shape: Shape) -> Term:
        """Marked strings that may satisfy the shape; a format may be read as an annotation."""
        language = self.language
        least, most = bounds(shape, "minLength", "maxLength")
        found = [language.whole(language.repeat(language.any_char, least, most))]
        found += [self.patterns.above(*_pattern(node)) for node in shape.with_keyword("pattern")]
        return language.both(*found)

    def accepts(self, shape: Shape, text: str) -> bool:
        """Whether this string surely satisfies the shape's string keywords."""
        least, most = bounds(shape, "minLength", "maxLength")
        if len(text) < least or (most is not None and len(text) > most):
            return False
        term = self.below(shape)
        return term is None or self.language.accepts(term, text)

    def excludes(self, left: Shape, right: Shape) -> bool:
        """Whether no string can satisfy both. False also where that is too costly to find out."""
        try:
            return of_language(self.language, self.language.both(self.above(left), self.above(right))).is_empty
        except UnsupportedParameter:
            self.language.budget.spend()
            return False

    def _format(self, name: object) -> Term | None:
        pattern = FORMATS.get(name) if isinstance(name, str) else None
        return None if pattern is None else self.patterns.below(pattern, "", "format")


def _pattern(node: Node) -> tuple[str, str]:
    return node.get("pattern", str, "a string"), node.pointer


def _any_char() -> Expr:
    plain = minus(ALL, union(((0, 0x1F),), of('"\\')))
    low = seq(_one_of("0123456789abcefABCEF"), _HEX, _HEX, _HEX)
    scalar = alt(low, seq(_one_of("dD"), _one_of("01234567"), _HEX, _HEX))
    pair = seq(_one_of("dD"), _one_of("89abAB"), _HEX, _HEX, Lit("\\u"), _one_of("dD"), _one_of("cdefCDEF"), _HEX, _HEX)
    escape = alt(_one_of('"\\/bfnrt'), seq(Lit("u"), alt(scalar, pair)))
    return alt(Chars(plain), seq(Lit("\\"), escape))


def _one_of(chars: str) -> Chars:
    return Chars(of(chars))
