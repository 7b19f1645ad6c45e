"""Money and quantities as integers.

An amount is a whole number of nano-units (1e-9) of the installation's one currency: `amount_nanos`. No float ever holds
money. A rate is nano-units per so many units of a quantity; what it comes to is rounded up to a whole nano-unit, once
per line, so that a bound on the quantity is a bound on the amount.
"""

from decimal import Decimal, InvalidOperation
from enum import StrEnum

import msgspec

from dayspring.core.errors import InvalidRequest

__all__ = ["NANOS", "Rate", "Unit", "format_amount", "parse_amount"]

NANOS = 1_000_000_000
"""Nano-units in one unit of the currency."""

_MAX_NANOS = 2**62
"""Fits a signed 64-bit column with room for one addition: about 4.6 billion units of the currency."""


class Unit(StrEnum):
    """What is counted on a bill. Tokens are disjoint: an input token is either cached or not."""

    INPUT_TOKEN = "input_token"
    CACHED_TOKEN = "cached_token"
    OUTPUT_TOKEN = "output_token"
    IMAGE = "image"
    SECOND = "second"
    """Of sound or video, in or out."""
    CHARACTER = "character"
    DEVICE_SECOND = "device_second"
    """Measured busy time of a device, counted in nanoseconds (`quantity` 1e9 is one second)."""
    REQUEST = "request"
    """The flat price of one request."""


class Rate(msgspec.Struct, frozen=True):
    """`amount_nanos` for every `per` units; e.g. 0.15 per million tokens is Rate(150_000_000, 1_000_000)."""

    amount_nanos: int
    per: int = 1

    def __post_init__(self) -> None:
        if self.amount_nanos < 0 or self.per < 1:
            raise InvalidRequest("A rate needs an amount of at least 0 for at least 1 unit. Correct the price.")

    def of(self, quantity: int) -> int:
        """Nano-units for `quantity` units, rounded up."""
        return -(-quantity * self.amount_nanos // self.per)

    def quantity_for(self, amount_nanos: int) -> int | None:
        """The largest quantity whose amount is at most `amount_nanos`; None when any quantity is (a rate of zero)."""
        if self.amount_nanos == 0:
            return None
        return max(0, amount_nanos * self.per // self.amount_nanos)


def parse_amount(text: str) -> int:
    """Nano-units from a decimal such as "5.00". Raises InvalidRequest for what is no amount, negative or too fine."""
    try:
        nanos = Decimal(text.strip()) * NANOS
    except InvalidOperation:
        nanos = Decimal("NaN")
    if not nanos.is_finite() or nanos != nanos.to_integral_value() or not 0 <= nanos <= _MAX_NANOS:
        raise InvalidRequest(f"{text!r} is no amount of money. Write a decimal of at most nine places, such as 5.00.")
    return int(nanos)


def format_amount(amount_nanos: int, currency: str = "") -> str:
    """A decimal with at least two and at most nine places, and the currency's code when given."""
    sign = "-" if amount_nanos < 0 else ""
    whole, nanos = divmod(abs(amount_nanos), NANOS)
    places = f"{nanos:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{places}{' ' + currency if currency else ''}"
