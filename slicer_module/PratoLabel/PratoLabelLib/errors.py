"""Failures that are meant for the user, and how any failure is told."""

from __future__ import annotations

import logging

from PratoLabelLib.translation import translator

_ = translator(__file__)

_logger = logging.getLogger(__name__)


class UserError(Exception):
    """``str(error)`` is one sentence for the user: what is wrong, and what would be right."""


def describe_error(error: Exception) -> str:
    """One sentence for the user; the Python console gets the traceback of what nobody has foreseen, and of nothing else."""
    if isinstance(error, UserError):
        _logger.info("%s", error)
        return str(error)
    _logger.error("Something unexpected happened.", exc_info=error)
    return _("Something unexpected happened ({name}: {error}): see the Python console.").format(name=type(error).__name__, error=error)
