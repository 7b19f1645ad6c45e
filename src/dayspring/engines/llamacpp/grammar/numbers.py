"""Numbers in a range, exactly: an automaton over decimal digits for what is not negative, and its mirror for the rest.

What holds: no leading zeros, no exponent, no negative zero; at most 15 significant digits, so that no two texts are the
same double and a comparison of doubles agrees with the comparison of the decimals.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from dayspring.engines.llamacpp.grammar.automata import Edges, State, explore, plain, to_rules
from dayspring.engines.llamacpp.grammar.charset import single
from dayspring.engines.llamacpp.grammar.expr import NEVER, Chars, Expr, Grammar, Lit, Repeat, alt, opt, seq
from dayspring.engines.llamacpp.grammar.limits import refuse
from dayspring.engines.llamacpp.grammar.schema import Node
from dayspring.engines.llamacpp.grammar.shape import Shape

__all__ = ["Range", "number_rules", "range_of"]

_DIGITS: Final = 15
_DECIMALS: Final = 6
_DIGIT: Final = Chars(((0x30, 0x39),))
_ZERO_TO_NINE: Final = "0123456789"

Digits = tuple[int, int, int, int]
"""Digits read, how they compare with as many of the lower and of the upper bound (-1, 0, 1), and the remainder."""
Places = tuple[str, int, int, int]
"""Phase ("whole", "zero", "part"), digits read in it, and the two comparisons."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, None where open; `above`, `below`: that end is not in it. `step`: whole multiples
    of it only, 0 for any decimals."""

    low: Fraction | None
    high: Fraction | None
    above: bool
    below: bool
    step: int

    def holds(self, value: Fraction) -> bool:
        if self.low is not None and (value < self.low or (self.above and value == self.low)):
            return False
        if self.high is not None and (value > self.high or (self.below and value == self.high)):
            return False
        return not self.step or value % self.step == 0

    def excludes(self, other: "Range") -> bool:
        """No number is in both."""
        return _ends_before(self, other) or _ends_before(other, self)


def _ends_before(left: Range, right: Range) -> bool:
    if left.high is None or right.low is None:
        return False
    return left.high < right.low or (left.high == right.low and (left.below or right.above))


def range_of(shape: Shape) -> Range:
    """The range that the nodes' number keywords leave. Raises UnsupportedParameter for a multipleOf."""
    low: tuple[Fraction, bool] | None = None
    high: tuple[Fraction, bool] | None = None
    step = 1 if shape.integers_only else 0
    for node in shape.nodes:
        for bound, strict in _ends(node, "minimum", "exclusiveMinimum"):
            low = max(low or (bound, strict), (bound, strict))
        for bound, strict in _ends(node, "maximum", "exclusiveMaximum"):
            high = min(high or (bound, strict), (bound, strict), key=lambda end: (end[0], not end[1]))
        if node.has("multipleOf"):
            step = math.lcm(step or 1, _whole_step(node))
    return Range(
        low[0] if low else None,
        high[0] if high else None,
        above=bool(low and low[1]),
        below=bool(high and high[1]),
        step=step,
    )


def _ends(node: Node, inclusive: str, exclusive: str) -> list[tuple[Fraction, bool]]:
    """The node's bounds on one side, and whether each is strict. Draft 4 has a boolean for the strict one."""
    ends = []
    bound = node.number(inclusive)
    if bound is not None:
        ends.append((bound, node.has(exclusive) and node.schema[exclusive] is True))
    if node.has(exclusive) and not isinstance(node.schema[exclusive], bool):
        strict = node.number(exclusive)
        if strict is not None:
            ends.append((strict, True))
    return ends


def _whole_step(node: Node) -> int:
    """A whole number whose multiples are multiples of multipleOf, for a validator that divides doubles as well."""
    wanted = node.number("multipleOf")
    if wanted is None or wanted <= 0:
        raise node.bad("multipleOf", "a number over 0")
    if wanted.denominator == 1:
        return wanted.numerator
    # The quotient of a whole number and a double that is at most 2**-54 off, relatively, rounds to the whole quotient.
    error = abs(Fraction(float(wanted)) - wanted) / wanted
    if error > Fraction(1, 2**54):
        raise refuse("multipleOf", node.pointer, "its multiples are not exact in binary arithmetic")
    return wanted.numerator


def number_rules(grammar: Grammar, shape: Shape) -> Expr:
    """JSON texts of the numbers the shape allows. Raises UnsupportedParameter."""
    span = range_of(shape)
    pointer = shape.pointer
    if any(isinstance(value, int | float) and not isinstance(value, bool) for value in shape.excluded.values()):
        return _without_excluded(shape, span)
    if span.low is None and span.high is None and span.step in (0, 1):
        return _unbounded(span.step)
    if span.step:
        return _integers(grammar, span, pointer)
    return _decimals(grammar, span, pointer)


def _without_excluded(shape: Shape, span: Range) -> Expr:
    values = enumerated(span)
    if values is None:
        raise refuse("not", shape.pointer, "values can be taken out of a small range of integers only")
    return alt(*(Lit(str(value)) for value in values if str(value) not in shape.excluded))


def enumerated(span: Range) -> list[int] | None:
    """All members of a range of up to 256 integers; None for any other."""
    if not span.step or span.low is None or span.high is None or span.high - span.low > 256 * span.step:
        return None
    first = math.ceil(span.low / span.step) * span.step
    return [value for value in range(first, math.floor(span.high) + 1, span.step) if span.holds(Fraction(value))]


def _unbounded(step: int) -> Expr:
    more = Repeat(_DIGIT, 0, _DIGITS - 1)
    fraction = seq(Lit("."), Repeat(_DIGIT, 1, _DECIMALS)) if not step else Lit("")
    positive = seq(Chars(((0x31, 0x39),)), Repeat(_DIGIT, 0, _DIGITS - 1 - (0 if step else _DECIMALS)))
    if step:
        return alt(Lit("0"), seq(opt(Lit("-")), Chars(((0x31, 0x39),)), more))
    # "-0.0" is valid and harmless here; in a range it is never generated.
    below_zero = alt(seq(positive, opt(fraction)), seq(Lit("0"), fraction))
    return alt(seq(alt(Lit("0"), positive), opt(fraction)), seq(Lit("-"), below_zero))


def _integers(grammar: Grammar, span: Range, pointer: str) -> Expr:
    low = None if span.low is None else math.floor(span.low) + 1 if span.above else math.ceil(span.low)
    high = None if span.high is None else math.ceil(span.high) - 1 if span.below else math.floor(span.high)
    if low is not None and high is not None and low > high:
        return NEVER
    forms: list[Expr] = []
    if (low is None or low <= 0) and (high is None or high >= 0):
        forms.append(Lit("0"))
    if high is None or high > 0:
        forms.append(_magnitudes(grammar, max(low or 1, 1), high, span.step, pointer))
    if low is None or low < 0:
        least = 1 if high is None or high >= 0 else -high
        most = None if low is None else -low
        forms.append(seq(Lit("-"), _magnitudes(grammar, least, most, span.step, pointer)))
    return alt(*forms)


def _magnitudes(grammar: Grammar, low: int, high: int | None, step: int, pointer: str) -> Expr:
    """Multiples of `step` from `low` > 0 to `high`, without leading zeros. Powers of ten become trailing zeros."""
    zeros = 0
    while step % 10 == 0:
        step, zeros = step // 10, zeros + 1
        low, high = -(-low // 10), None if high is None else high // 10
    if step > 400:
        raise refuse("multipleOf", pointer, "the step is too large for digits to be counted through")
    width = len(str(high)) if high is not None else max(len(str(low)) + 2, _DIGITS if step == 1 else len(str(step)) + 6)
    lows, highs = str(low), None if high is None else str(high)

    def edges(state: Digits) -> Edges[Digits]:
        length, against_low, against_high, left = state
        if length >= width:
            return []
        made: Edges[Digits] = []
        for digit in _ZERO_TO_NINE[1 if length == 0 else 0 :]:
            made.append(
                (
                    single(digit),
                    (
                        length + 1,
                        _compare(against_low, digit, lows, length),
                        _compare(against_high, digit, highs, length) if highs is not None else -1,
                        (left * 10 + int(digit)) % step,
                    ),
                )
            )
        return _merged(made)

    def final(state: Digits) -> bool:
        length, against_low, against_high, left = state
        if not length or left or length < len(lows) or (length == len(lows) and against_low < 0):
            return False
        return highs is None or length < len(highs) or against_high <= 0

    body = to_rules(grammar, explore((0, 0, 0, 0), edges, final), plain)
    return seq(body, Lit("0" * zeros))


def _compare(so_far: int, digit: str, bound: str, index: int) -> int:
    """-1, 0, 1: the digits read against as many of the bound's."""
    if so_far or index >= len(bound):
        return so_far
    return (digit > bound[index]) - (digit < bound[index])


def _merged(edges: Edges[State]) -> Edges[State]:
    """Digits that lead to the same state on one edge."""
    groups: dict[State, list[int]] = {}
    for chars, target in edges:
        groups.setdefault(target, []).append(chars[0][0])
    made: Edges[State] = []
    for target, points in groups.items():
        ranges: list[tuple[int, int]] = []
        for point in points:
            if ranges and ranges[-1][1] == point - 1:
                ranges[-1] = (ranges[-1][0], point)
            else:
                ranges.append((point, point))
        made.append((tuple(ranges), target))
    return made


def _decimals(grammar: Grammar, span: Range, pointer: str) -> Expr:
    low, high = span.low, span.high
    forms: list[Expr] = []
    if span.holds(Fraction(0)):
        forms.append(Lit("0"))
    if high is None or high > 0:
        inside = low if low is not None and low > 0 else Fraction(0)
        forms.append(_decimal_magnitudes(grammar, inside, high, span.above or inside == 0, span.below, pointer))
    if low is None or low < 0:
        inside = -high if high is not None and high < 0 else Fraction(0)
        most = None if low is None else -low
        magnitudes = _decimal_magnitudes(grammar, inside, most, span.below or inside == 0, span.above, pointer)
        forms.append(seq(Lit("-"), magnitudes))
    return alt(*forms)


def _decimal_magnitudes(
    grammar: Grammar, low: Fraction, high: Fraction | None, above: bool, below: bool, pointer: str
) -> Expr:
    """Decimals from `low` >= 0 to `high`; above, below: without that end."""
    if high is not None and high >= 10**_DIGITS and low < 10 ** (_DIGITS - 1):
        high = None  # out of reach of the digits generated
    low_whole, low_part = _written(low, pointer)
    high_whole, high_part = _written(high, pointer) if high is not None else (None, "")
    width = len(high_whole) if high_whole is not None else max(_DIGITS - _DECIMALS, len(low_whole) + 1)
    places = min(max(2, len(low_part) + 1, len(high_part) + 1), _DIGITS - width)
    if places < 1:
        return _whole_decimals(grammar, low, high, above, below, pointer)
    start = ("whole", 0, 0, 0)
    after = _after_point(low_whole, high_whole)
    zero = (0 if low_whole == "0" else -1, 0 if high_whole == "0" else -1)

    def edges(state: Places) -> Edges[Places]:
        phase, length, against_low, against_high = state
        if phase == "zero":
            return [(single("."), ("part", 0, *zero))]
        made: Edges[Places] = []
        bounds = (low_whole, high_whole) if phase == "whole" else (low_part, high_part)
        limit = width if phase == "whole" else places
        for digit in _ZERO_TO_NINE if length < limit else "":
            if phase == "whole" and length == 0 and digit == "0":
                made.append((single("0"), ("zero", 1, 0, 0)))
                continue
            low_now, high_now = (
                _compare(so_far, digit, _padded(bound, limit, phase), length) if bound is not None else -1
                for so_far, bound in zip((against_low, against_high), bounds, strict=True)
            )
            made.append((single(digit), (phase, length + 1, low_now, high_now)))
        made = _merged(made)
        if phase == "whole" and length:
            made.append((single("."), ("part", 0, *after("9" * length, against_low, against_high))))
        return made

    def final(state: Places) -> bool:
        phase, length, against_low, against_high = state
        if phase == "whole" and not length:
            return False
        if phase == "zero":
            against_low, against_high = zero
            length = 0
        elif phase == "whole":
            against_low, against_high = after("9" * length, against_low, against_high)
            length = 0
        elif not length:
            return False
        if against_low == 0 and any(digit != "0" for digit in low_part[length:]):
            against_low = -1
        if against_high == 0 and any(digit != "0" for digit in high_part[length:]):
            against_high = -1
        return (against_low > 0 or (against_low == 0 and not above)) and (
            high_whole is None or against_high < 0 or (against_high == 0 and not below)
        )

    return to_rules(grammar, explore(start, edges, final), plain)


def _whole_decimals(
    grammar: Grammar, low: Fraction, high: Fraction | None, above: bool, below: bool, pointer: str
) -> Expr:
    """A range too far out for decimal places: its integers."""
    least = math.floor(low) + 1 if above else math.ceil(low)
    most = None if high is None else math.ceil(high) - 1 if below else math.floor(high)
    return NEVER if most is not None and most < max(least, 1) else _magnitudes(grammar, max(least, 1), most, 1, pointer)


def _after_point(low_whole: str, high_whole: str | None) -> Callable[[str, int, int], tuple[int, int]]:
    """How a whole part compares with the bounds' whole parts, from its length and how its digits compare."""

    def compare(text: str, against_low: int, against_high: int) -> tuple[int, int]:
        low = against_low if len(text) == len(low_whole) else (1 if len(text) > len(low_whole) else -1)
        if high_whole is None:
            return low, -1
        return low, against_high if len(text) == len(high_whole) else (1 if len(text) > len(high_whole) else -1)

    return compare


def _padded(bound: str, limit: int, phase: str) -> str:
    return bound.ljust(limit, "0") if phase == "part" else bound


def _written(value: Fraction, pointer: str) -> tuple[str, str]:
    """Whole part and decimals of a decimal fraction."""
    scale = 1
    while (value * scale).denominator != 1:
        scale *= 10
        if scale > 10**340:
            raise refuse("minimum", pointer, "the bound is no decimal number")
    digits = str(int(value * scale)).rjust(len(str(scale)), "0")
    places = len(str(scale)) - 1
    return (digits[:-places] or "0", digits[-places:]) if places else (digits, "")
