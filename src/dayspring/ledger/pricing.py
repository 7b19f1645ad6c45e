"""What a quantity costs: pure arithmetic on rates, the same for a customer's price and an upstream's bill.

What holds: every line is rounded up to a whole nano-unit, once; `bound` of quantities at least as large, unit by unit
and for input and cached tokens together, is never less than the price. Cached tokens without a rate of their own are
input tokens. A flat rate counts one request unless the quantities say otherwise.
What it does not do: choose the rates (`prices`) or know a currency.
"""

from collections.abc import Mapping

import msgspec

from dayspring.core.money import Rate, Unit

__all__ = ["Line", "Quantities", "Rates", "bound", "largest_output", "price", "total"]

Rates = Mapping[Unit, Rate]
Quantities = Mapping[Unit, int]
"""Whole numbers by unit; DEVICE_SECOND in nanoseconds, SECOND and the rest in ones."""


class Line(msgspec.Struct, frozen=True):
    """One line of a bill."""

    unit: Unit
    quantity: int
    rate: Rate
    amount_nanos: int


def price(rates: Rates, quantities: Quantities) -> tuple[Line, ...]:
    """The lines of a bill. A unit without a rate is free and has no line; so has a quantity of zero."""
    counted = dict(quantities)
    if Unit.CACHED_TOKEN not in rates:
        counted[Unit.INPUT_TOKEN] = counted.get(Unit.INPUT_TOKEN, 0) + counted.pop(Unit.CACHED_TOKEN, 0)
    if Unit.REQUEST in rates:
        counted.setdefault(Unit.REQUEST, 1)
    return tuple(
        Line(unit, quantity, rates[unit], rates[unit].of(quantity))
        for unit, quantity in counted.items()
        if quantity and unit in rates
    )


def total(lines: tuple[Line, ...]) -> int:
    """Nano-units of the whole bill."""
    return sum(line.amount_nanos for line in lines)


def bound(rates: Rates, quantities: Quantities) -> int:
    """The most, in nano-units, that a request of at most these quantities can cost.

    How many of the input tokens will be found in a cache is not known before: all are taken at the dearer rate, and one
    nano-unit more where two lines may round up instead of one.
    """
    most = dict(quantities)
    cached = rates.get(Unit.CACHED_TOKEN)
    if cached is None:
        return total(price(rates, most))
    tokens = most.pop(Unit.INPUT_TOKEN, 0) + most.pop(Unit.CACHED_TOKEN, 0)
    uncached = rates.get(Unit.INPUT_TOKEN, Rate(0))
    dearest = max(uncached.of(tokens), cached.of(tokens))
    return total(price(rates, most)) + dearest + (1 if tokens > 1 else 0)


def largest_output(rates: Rates, quantities: Quantities, amount_nanos: int, most: int) -> int | None:
    """How many output tokens, `most` at most, a request of these other quantities may produce for the amount.

    None when the amount does not even cover one (or none, where `most` is 0).
    """
    others: dict[Unit, int] = {unit: quantity for unit, quantity in quantities.items() if unit is not Unit.OUTPUT_TOKEN}
    left = amount_nanos - bound(rates, others)
    if left < 0:
        return None
    fits = rates.get(Unit.OUTPUT_TOKEN, Rate(0)).quantity_for(left)
    found = most if fits is None else min(fits, most)
    return found if found or not most else None
