"""The arithmetic of a bill, as properties."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from dayspring.core.money import Rate, Unit
from dayspring.ledger.pricing import bound, largest_output, price, total

IN, CACHED, OUT = Unit.INPUT_TOKEN, Unit.CACHED_TOKEN, Unit.OUTPUT_TOKEN

_rate = st.builds(Rate, st.integers(0, 10**12), st.sampled_from([1, 3, 7, 1000, 10**6, 10**9]))
_rates = st.dictionaries(st.sampled_from(list(Unit)), _rate)
_quantities = st.dictionaries(st.sampled_from(list(Unit)), st.integers(0, 10**12))


@given(_rates, _quantities, st.data())
def test_a_bound_covers_every_smaller_bill(rates: dict[Unit, Rate], most: dict[Unit, int], data: st.DataObject) -> None:
    actual = {unit: data.draw(st.integers(0, quantity)) for unit, quantity in most.items()}
    tokens = data.draw(st.integers(0, most.get(IN, 0) + most.get(CACHED, 0)))
    actual[CACHED] = data.draw(st.integers(0, tokens))
    actual[IN] = tokens - actual[CACHED]
    assert total(price(rates, actual)) <= bound(rates, most)


@given(_rates, _quantities)
def test_a_bill_is_the_exact_sum_and_less_than_a_nano_more_for_each_line(
    rates: dict[Unit, Rate], quantities: dict[Unit, int]
) -> None:
    lines = price(rates, quantities)
    exact = sum(Fraction(line.quantity * line.rate.amount_nanos, line.rate.per) for line in lines)
    assert exact <= total(lines) < exact + max(1, len(lines))


@given(_rates, _quantities, st.integers(0, 10**15), st.integers(0, 10**6))
def test_the_largest_output_fits_and_one_more_does_not(
    rates: dict[Unit, Rate], quantities: dict[Unit, int], amount: int, most: int
) -> None:
    quantities.pop(OUT, None)
    found = largest_output(rates, quantities, amount, most)
    if found is None:
        assert bound(rates, quantities | {OUT: min(most, 1)}) > amount
        return
    assert bound(rates, quantities | {OUT: found}) <= amount
    assert found == most or bound(rates, quantities | {OUT: found + 1}) > amount


def test_cached_tokens_are_input_tokens_unless_they_have_a_rate() -> None:
    rates = {IN: Rate(3, 2), OUT: Rate(10)}
    used = {IN: 3, CACHED: 2, OUT: 4}
    assert [(line.unit, line.quantity, line.amount_nanos) for line in price(rates, used)] == [(IN, 5, 8), (OUT, 4, 40)]
    rates[CACHED] = Rate(1)
    assert total(price(rates, used)) == 5 + 2 + 40


def test_a_flat_price_is_for_one_request_unless_said_otherwise() -> None:
    rates = {Unit.REQUEST: Rate(100)}
    assert total(price(rates, {})) == 100 == bound(rates, {IN: 10**9})
    assert total(price(rates, {Unit.REQUEST: 3})) == 300


def test_a_device_second_is_counted_in_nanoseconds_and_rounded_up() -> None:
    rates = {Unit.DEVICE_SECOND: Rate(5_000, 10**9)}
    assert total(price(rates, {Unit.DEVICE_SECOND: 10**9 + 1})) == 5001


def test_a_unit_without_a_rate_is_free() -> None:
    assert price({OUT: Rate(1)}, {IN: 10, OUT: 0}) == ()
    assert largest_output({IN: Rate(1)}, {IN: 5}, 5, 77) == 77
    assert largest_output({IN: Rate(1)}, {IN: 5}, 4, 77) is None
