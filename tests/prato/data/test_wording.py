"""One study is, two studies are."""

from __future__ import annotations

from prato.data.wording import studies_of


def test_one_and_many() -> None:
    assert [studies_of(1, 1), studies_of(2, 1), studies_of(0, 0)] == [
        "1 study of 1 patient is",
        "2 studies of 1 patient are",
        "0 studies of 0 patients are",
    ]
