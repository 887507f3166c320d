"""Sentences against a label, and which phases they are about."""

from prato.labelling.doubts import about_phases


def test_whoever_decides_on_a_phase_is_told_what_is_said_of_it_and_of_all() -> None:
    whole, first, tenth = "The image was replaced.", "Phase 1: it lacks the RV cavity.", "Phase 10: it lacks the RV cavity."
    assert about_phases([whole, first, tenth], [1]) == [whole, first]
    assert about_phases([whole, first, tenth], [10]) == [whole, tenth]
    assert about_phases([whole, first, tenth], [1, 10]) == [whole, first, tenth]
    assert about_phases([whole, first, tenth], []) == [whole]
