"""A list in parts is the list, and no part is more than a statement takes."""

from hypothesis import given
from hypothesis import strategies as st

from dayspring.store.parts import in_parts


@given(st.integers(0, 3000))
def test_the_parts_are_the_whole_in_order_and_short(length: int) -> None:
    parts = list(in_parts(range(length)))
    assert [value for part in parts for value in part] == list(range(length))
    assert all(1 <= len(part) <= 500 for part in parts)
