"""One study is, two studies are; and what is wrong with a file, where."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from prato.data.wording import first_fault, studies_of


class Range(BaseModel):
    """From ``low`` to ``high``."""

    low: float
    high: float

    @model_validator(mode="after")
    def _check(self) -> Range:
        if self.high < self.low:
            raise ValueError("high must not be below low")
        return self


class Ranges(BaseModel):
    """By name."""

    named: dict[str, Range]


def test_one_and_many() -> None:
    assert [studies_of(1, 1), studies_of(2, 1), studies_of(0, 0)] == [
        "1 study of 1 patient is",
        "2 studies of 1 patient are",
        "0 studies of 0 patients are",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"named": {"a": {"low": 1, "high": "x"}}}', "named.a.high: Input should be a valid number, unable to parse string as a number"),
        ('{"named": {"a": {"low": 2, "high": 1}}}', "named.a: high must not be below low"),
        ("", "Invalid JSON: EOF while parsing a value at line 1 column 0"),
    ],
)
def test_what_is_wrong_with_a_file(text: str, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Ranges.model_validate_json(text)
    assert first_fault(refused.value) == said
