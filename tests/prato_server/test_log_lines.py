"""A request's packed mask is shortened in the log, whoever logs it; what people read is not."""

from __future__ import annotations

import io
import logging

import pytest

from prato_server.log_lines import ShortenPacked, shorten_packed


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(stream)])
    shorten_packed()
    return stream


@pytest.mark.parametrize("as_argument", [True, False])
def test_a_packed_mask_is_shortened(written: io.StringIO, as_argument: bool) -> None:
    mask = "eJzt" * 30_000
    request = {"clicks": [[3, 4, 5]], "mask": {"data": mask, "shape": [9, 9, 9]}, "model": "m"}
    if as_argument:
        logging.getLogger("monailabel.endpoints.infer").warning("Infer Request: %s", request)
    else:
        logging.getLogger("monailabel.endpoints.infer").warning(f"Infer Request: {request}")
    short = "eJzteJzteJzteJzt... (120000 characters)"
    assert written.getvalue() == f"Infer Request: {str(request).replace(mask, short)}\n"


def test_what_people_read_stays_as_it_is(written: io.StringIO) -> None:
    sentence = "The label of a study with a long name, and a folder: " + "/data/heart/study_1.nii.gz " * 40
    logging.getLogger("lib").warning(sentence)
    try:
        raise ValueError("x" * 300)
    except ValueError:
        logging.getLogger("lib").exception("100 %% sure of %s", "it")
    assert written.getvalue().startswith(f"{sentence}\n100 % sure of it\nTraceback")


def test_a_message_that_its_arguments_do_not_fit_is_left_to_the_handler() -> None:
    """Whoever logged it got the error, and a request failed."""
    record = logging.LogRecord("lib", logging.WARNING, "", 1, "%d studies", ("many",), None)
    assert ShortenPacked().filter(record) and record.args == ("many",)
