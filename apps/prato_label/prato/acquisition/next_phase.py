"""Which phase of a cine comes next, and when a cine is done: experts contour end-diastole and end-systole, which give the function."""

from __future__ import annotations

from collections.abc import Collection

#: Where end-systole lies in a cycle that begins at the R wave: some 300 ms after it at 75 beats a minute.
_SYSTOLE = 0.37


def guess_ed_es(count: int) -> tuple[int, int]:
    """End-diastole and end-systole of a cine of ``count`` phases (two at least) that nobody marked: scanners begin it at the R wave."""
    return 0, min(max(round(_SYSTOLE * count), 1), count - 1)


def next_phase(count: int, marked: tuple[int, int] | None, trusted: Collection[int]) -> int | None:
    """The phase to be labelled next, of ``count``; None where the study is done.

    A volume is done with its one phase, and a cine with its ``marked`` end-diastole and end-systole. Without these, any two ``trusted``
    phases are taken to be them: somebody chose them.
    """
    if count == 1:
        return None if trusted else 0
    if marked is not None:
        return next((phase for phase in marked if phase not in trusted), None)
    if len(trusted) > 1:
        return None
    candidates = [phase for phase in guess_ed_es(count) if phase not in trusted]
    if not trusted:
        return candidates[0]
    (known,) = trusted
    return max(candidates, key=lambda phase: min((phase - known) % count, (known - phase) % count))
