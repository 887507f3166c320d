"""Questions to the server: asked in the worker, answered on the main thread, and what fails is one sentence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from PratoLabelLib.client import Cancelled, Client
from PratoLabelLib.worker import Worker

_logger = logging.getLogger(__name__)


class Asking:
    """Asks ``client``, the server that is connected.

    Args:
        worker: where the questions wait for their answers.
        failed: told one sentence where a question cannot be asked or fails, or where its answer cannot be used.
    """

    def __init__(self, worker: Worker, failed: Callable[[str], None]) -> None:
        self.client: Client | None = None
        self._worker, self._failed = worker, failed

    def ask(
        self,
        question: Callable[[Client], Any],
        arrived: Callable[[Any], None],
        lane: str,
        lost: Callable[[], None] = lambda: None,
        quiet: bool = False,
        client: Client | None = None,
    ) -> None:
        """Have ``question`` answered by the server that is connected, or by ``client``'s, which need not be.

        Args:
            arrived: gets the answer. lane: of the worker.
            lost: called where the question fails, cancelled or not. quiet: nobody asked for it, so nobody is told that it failed.
        """
        asked = client or self.client
        if asked is None:
            self._failed("Not connected to a server: give its address and press Test.")
            return

        def done(result: Any) -> None:
            try:
                arrived(result)
            except Exception as error:  # whatever it is, the labeller must see that nothing came of it
                _logger.exception("The answer could not be used.")
                self._failed(_sentence(error))

        def failed(error: Exception) -> None:
            lost()
            if not quiet and not isinstance(error, Cancelled):
                self._failed(_sentence(error))

        self._worker.submit(lambda: question(asked), done, failed, lane, asked.cancel)


def _sentence(error: Exception) -> str:
    return str(error) or f"Something unexpected happened ({type(error).__name__}): see the Python console."
