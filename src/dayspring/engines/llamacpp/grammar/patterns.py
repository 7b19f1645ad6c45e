"""Read a JSON Schema `pattern` (ECMA-262) into a language, from below or from above.

ECMA-262 and Python's `re` differ in what `\\d`, `\\w`, `\\s`, `.` and `$` match. From below, the language read is in
what both match: what is generated from it is valid for either. From above, it holds all that either matches: what is
kept out of it fails either. Where they agree the two are the same.
What it does not do: lookaround, backreferences, word boundaries, Unicode properties and flags are refused by name.
"""

from typing import Final, NoReturn

from dayspring.engines.llamacpp.grammar.charset import ALL, CharSet, complement, minus, of, single, union
from dayspring.engines.llamacpp.grammar.language import Language, Term
from dayspring.engines.llamacpp.grammar.limits import bad_schema, refuse

__all__ = ["Patterns"]

Bounds = tuple[CharSet, CharSet]
"""The set from below and from above."""

_DIGIT: Final = of("0123456789")
_WORD: Final = union(_DIGIT, ((0x41, 0x5A), (0x61, 0x7A)), single("_"))
_BEYOND: Final[CharSet] = ((0x80, 0xD7FF), (0xE000, 0x10FFFF))
_SPACE: Final = union(of("\t\n\v\f\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000"), ((0x2000, 0x200A),))
_CLASSES: Final[dict[str, Bounds]] = {
    "d": (_DIGIT, union(_DIGIT, _BEYOND)),
    "w": (_WORD, union(_WORD, _BEYOND)),
    "s": (_SPACE, union(_SPACE, ((0x1C, 0x1F),), of("\x85\ufeff"))),
}
_DOT: Final[Bounds] = (minus(ALL, of("\n\r\u2028\u2029")), minus(ALL, of("\n")))
_CONTROLS: Final = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_MAX_COUNT: Final = 1_000
_MAX_NESTING: Final = 40


class Patterns:
    """The patterns of one compilation."""

    def __init__(self, language: Language) -> None:
        self._language = language

    def below(self, pattern: str, pointer: str, keyword: str = "pattern") -> Term:
        """Marked strings that surely match somewhere."""
        return self._language.searched(_Reader(self._language, pattern, pointer, keyword, upper=False).read())

    def above(self, pattern: str, pointer: str, keyword: str = "pattern") -> Term:
        """Marked strings that may match somewhere."""
        return self._language.searched(_Reader(self._language, pattern, pointer, keyword, upper=True).read())


class _Reader:
    def __init__(self, language: Language, pattern: str, pointer: str, keyword: str, *, upper: bool) -> None:
        self.language = language
        self.pattern = pattern
        self.pointer = pointer
        self.keyword = keyword
        self.side = 1 if upper else 0
        self.at = 0
        self.nesting = 0

    def refuse(self, what: str) -> NoReturn:
        raise refuse(self.keyword, self.pointer, f"the pattern uses {what}")

    def broken(self, what: str) -> NoReturn:
        raise bad_schema(f"{self.pointer}/{self.keyword}", f"its regular expression {what}")

    def peek(self, text: str) -> bool:
        return self.pattern.startswith(text, self.at)

    def take(self, text: str) -> bool:
        if self.peek(text):
            self.at += len(text)
            return True
        return False

    def next(self) -> str:
        if self.at >= len(self.pattern):
            self.broken("ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def read(self) -> Term:
        self.language.budget.spend(len(self.pattern))
        term = self.choice(first=True, last=True)
        if self.at < len(self.pattern):
            self.broken("closes a group that was not opened")
        return term

    def choice(self, *, first: bool, last: bool) -> Term:
        """`first`, `last`: nothing is read before, after this in the same match, so `^`, `$` may stand here."""
        self.nesting += 1
        if self.nesting > _MAX_NESTING:
            self.refuse("groups nested too deeply")
        terms = [self.sequence(first, last)]
        while self.take("|"):
            terms.append(self.sequence(first, last))
        self.nesting -= 1
        return self.language.alt(*terms)

    def sequence(self, first: bool, last: bool) -> Term:
        terms: list[Term] = []
        ended = False
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            if ended:
                self.refuse("'$' before the end of an alternative")
            if self.take("^"):
                if not first or terms:
                    self.refuse("'^' after the start of an alternative")
                terms.append(self.language.start)
                continue
            if self.take("$"):
                if not last:
                    self.refuse("'$' before the end of an alternative")
                terms.append(self.dollar())
                ended = True
                continue
            terms.append(self.counted(first=first and not terms, last=last))
        return self.language.seq(*terms)

    def group(self) -> tuple[int, bool]:
        """Of the group that opens here: the index after it, and whether it holds an anchor."""
        depth, index, in_class, anchored = 0, self.at, False, False
        while index < len(self.pattern):
            char = self.pattern[index]
            index += 1
            if char == "\\":
                index += 1
            elif in_class:
                in_class = char != "]"
            elif char == "[":
                in_class = True
            elif char in "^$":
                anchored = True
            elif char in "()":
                depth += 1 if char == "(" else -1
                if depth == 0:
                    return index, anchored
        return index, anchored

    def dollar(self) -> Term:
        """Python's `$` also stands before a last line feed."""
        if self.side == 0:
            return self.language.end
        feed = self.language.seq(self.language.text("\n"), self.language.end)
        return self.language.alt(self.language.end, feed)

    def counted(self, *, first: bool, last: bool) -> Term:
        anchored = False
        if self.peek("("):
            after, anchored = self.group()
            last = last and (after >= len(self.pattern) or self.pattern[after] in "|)")
        term = self.atom(first=first, last=last)
        while self.at < len(self.pattern):
            least, most = self.count()
            if (least, most) == (1, 1):
                break
            if anchored:
                self.refuse("an anchor inside a repetition")
            term = self.language.repeat(term, least, most)
            self.take("?")
            if self.peek("+"):
                self.refuse("a possessive quantifier")
        return term

    def count(self) -> tuple[int, int | None]:
        if self.take("*"):
            return 0, None
        if self.take("+"):
            return 1, None
        if self.take("?"):
            return 0, 1
        if not self.peek("{"):
            return 1, 1
        close = self.pattern.find("}", self.at)
        low, comma, high = self.pattern[self.at + 1 : max(close, 0)].partition(",")
        if not low and comma and _digits(high):
            self.refuse("a repetition without its lower bound")
        if not _digits(low) or (high and not _digits(high)):
            return 1, 1
        self.at = close + 1
        if len(low) > 4 or len(high) > 4 or max(int(low), int(high or 0)) > _MAX_COUNT:
            self.refuse(f"a repetition of over {_MAX_COUNT}")
        if high and int(high) < int(low):
            self.broken("has a repetition whose bounds are reversed")
        if low == high == "1" or (low == "1" and not comma):
            return self.count()
        return int(low), (int(high) if high else None) if comma else int(low)

    def atom(self, *, first: bool, last: bool) -> Term:
        char = self.next()
        if char == "(":
            self.group_kind()
            term = self.choice(first=first, last=last)
            if not self.take(")"):
                self.broken("does not close a group")
            return term
        if char == "[":
            return self.language.chars(self.char_class()[self.side])
        if char == ".":
            return self.language.chars(_DOT[self.side])
        if char == "\\":
            return self.language.chars(self.escape(in_class=False)[self.side])
        if char in "*+?":
            self.broken("repeats nothing")
        return self.language.chars(single(char))

    def group_kind(self) -> None:
        if not self.take("?"):
            return
        if self.take(":"):
            return
        for sign, name in (("=", "lookahead"), ("!", "lookahead"), ("<=", "lookbehind"), ("<!", "lookbehind")):
            if self.peek(sign):
                self.refuse(f"{name} (?{sign}...)")
        if self.take("<") or self.take("P<"):
            close = self.pattern.find(">", self.at)
            if close > self.at:
                self.at = close + 1
                return
        self.refuse(f"the group form (?{self.pattern[self.at : self.at + 1]}...)")

    def escape(self, *, in_class: bool) -> Bounds:
        char = self.next()
        if char in _CLASSES:
            return _CLASSES[char]
        if char.lower() in _CLASSES:
            below, above = _CLASSES[char.lower()]
            return complement(above), complement(below)
        if char in "pP":
            self.refuse(f"the Unicode property \\{char}")
        if char in "bB" and not in_class:
            self.refuse(f"the word boundary \\{char}")
        if (char.isdigit() and char != "0") or char == "k":
            self.refuse(f"the backreference \\{char}")
        point = self.point(char)
        return ((point, point),), ((point, point),)

    def point(self, char: str) -> int:
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char == "0":
            return 0
        if char == "b":
            return 8
        if char == "c":
            return ord(self.next()) % 32
        if char == "x":
            return self.hexadecimal(2)
        if char == "u":
            if self.take("{"):
                close = self.pattern.find("}", self.at)
                return self.hexadecimal(max(close - self.at, 0), closing=True)
            high = self.hexadecimal(4)
            if 0xD800 <= high <= 0xDBFF and self.take("\\u"):
                high = 0x10000 + ((high - 0xD800) << 10) + (self.hexadecimal(4) - 0xDC00)
            return high
        if char.isalpha():
            self.refuse(f"the escape \\{char}")
        return ord(char)

    def hexadecimal(self, length: int, *, closing: bool = False) -> int:
        digits = self.pattern[self.at : self.at + length]
        if len(digits) != length or not digits or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            self.broken("has an unreadable escape")
        self.at += length + closing
        point = int(digits, 16)
        if point > 0x10FFFF:
            self.broken("names no Unicode character")
        return point

    def char_class(self) -> Bounds:
        inverted = self.take("^")
        if self.peek("]"):
            self.refuse("an empty character class")
        below: CharSet = ()
        above: CharSet = ()
        while not self.take("]"):
            low = self.class_atom()
            if self.peek("-") and not self.peek("-]"):
                if not _one(low):
                    self.refuse("a class as the start of a range")
                self.at += 1
                high = self.class_atom()
                if not _one(high):
                    self.refuse("a class as the end of a range")
                if high[0][0][0] < low[0][0][0]:
                    self.broken("has a range whose ends are reversed")
                span = minus(((low[0][0][0], high[0][0][0]),), ((0xD800, 0xDFFF),))
                low = (span, span)
            below, above = union(below, low[0]), union(above, low[1])
        return (complement(above), complement(below)) if inverted else (below, above)

    def class_atom(self) -> Bounds:
        char = self.next()
        if char == "\\":
            return self.escape(in_class=True)
        return single(char), single(char)


def _one(bounds: Bounds) -> bool:
    return len(bounds[0]) == 1 and bounds[0] == bounds[1] and bounds[0][0][0] == bounds[0][0][1]


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
