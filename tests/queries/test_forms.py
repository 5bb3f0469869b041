"""Canonical forms read back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convexorm.querying.forms import values_of
from convexorm.values import Value, canonical
from tests.test_values import VALUES, VECTORS, vector_value


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["canonical"])
def test_the_forms_of_the_wire_are_read_back(vector: dict[str, Any]) -> None:
    (found,) = values_of(bytes.fromhex(vector["canonical"]))
    assert canonical(found) == canonical(vector_value(vector))


@given(st.lists(VALUES, max_size=4))
def test_values_are_read_back_one_behind_the_other(values: list[Value]) -> None:
    forms = [canonical(value) for value in values]
    assert [canonical(value) for value in values_of(b"".join(forms))] == forms


def test_a_whole_number_is_an_int() -> None:
    assert repr(values_of(b"".join(map(canonical, (5.0, -0.0, 0.5, 2.0**60))))) == "[5, -0.0, 0.5, 1.152921504606847e+18]"


@pytest.mark.parametrize("data", [b"\x02", b"\x10a", b"\x0d\x00", b"\x09", b"\x12\x0e", b"\x15a\x00", b"\x10\xff\x00"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no canonical forms"):
        values_of(data)
