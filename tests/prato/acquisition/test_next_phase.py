"""Which phase of a cine comes next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prato.acquisition.next_phase import guess_ed_es, next_phase


@pytest.mark.parametrize(
    ("count", "marked", "trusted", "phase"),
    [
        (1, None, [], 0),
        (1, None, [0], None),
        (30, (28, 10), [], 28),
        (30, (28, 10), [0, 28], 10),
        (30, (28, 10), [10, 28], None),
        (30, None, [], 0),
        (30, None, [0], 11),
        (30, None, [29], 11),  # somebody took the phase before the first one for end-diastole
        (30, None, [10], 0),
        (30, None, [29, 12], None),
    ],
)
def test_end_diastole_then_end_systole_and_no_more(count, marked, trusted, phase) -> None:
    assert next_phase(count, marked, trusted) == phase


@given(st.integers(2, 256))
def test_whoever_labels_what_is_next_is_done_after_two_phases(count) -> None:
    trusted: list[int] = []
    while (phase := next_phase(count, None, trusted)) is not None:
        assert 0 <= phase < count
        assert phase not in trusted
        trusted.append(phase)
    assert sorted(trusted) == sorted(guess_ed_es(count))
