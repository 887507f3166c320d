"""Where the measured masks are from, in words."""

from prato.function.sources import MaskSource, join_sources

DRAWN, PROPOSED = MaskSource("label version 2 by Ada"), MaskSource("a proposal that nobody has corrected", is_trusted=False)


def test_phases_that_follow_each_other_are_one_span() -> None:
    assert join_sources([(name, DRAWN) for name in ("0", "1", "5")]) == DRAWN.words
    mixed = [*((str(t), DRAWN) for t in (0, 1, 2, 7, 9, 10)), ("3", PROPOSED)]
    assert join_sources(mixed) == f"0-2, 7, 9-10: {DRAWN.words}; 3: {PROPOSED.words}"
    assert join_sources([("ED", DRAWN), ("ES", PROPOSED)]) == f"ED: {DRAWN.words}; ES: {PROPOSED.words}"
