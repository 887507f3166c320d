"""What people have decided about studies besides labels: reviews, marked phases, and whatever else clients have noted.

MONAI Label keeps that in its list of the folder alone, which forgets a study as soon as its image is away, if only for a moment: a share
that is not mounted, a tool that removes a file before it writes the new one, a link whose file has yet to be fetched again.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from prato.data.atomic import stage_bytes

logger = logging.getLogger(__name__)
FILE_NAME = "study_decisions.json"
#: What the server itself knows of an image, or can find out again, and who was handed it.
_NOT_SAID = ("ts", "name", "path", "phases", "times_ms", "strategy")
_FILE = TypeAdapter(dict[str, dict[str, Any]])


class Decisions:
    """The file of them in a studies folder. Whoever changes it has the folder's lock."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def read(self) -> dict[str, dict[str, Any]]:
        """What was said about each study, by study; nothing where the file is damaged, which is then set aside.

        Raises:
            OSError: the file cannot be read.
        """
        try:
            return _FILE.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            damaged = self._path.with_suffix(".damaged")
            logger.warning("%s is damaged: it is set aside as %s and rewritten from the list of studies.", FILE_NAME, damaged.name)
            os.replace(self._path, damaged)
            return {}

    def keep(self, infos: Mapping[str, Mapping[str, Any]]) -> None:
        """Let the file say of each of these studies what the list says of it in ``infos``; nothing is written where it does already.

        Raises:
            OSError: the file cannot be read or written.
        """
        with self.staged(infos):
            pass

    @contextmanager
    def staged(self, infos: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
        """As ``keep``, once the block ends without an error; the room for it on the disk is reserved before the block."""
        before = self.read()
        said = {study: {name: value for name, value in info.items() if _is_said(name, value)} for study, info in infos.items()}
        after = {study: found for study, found in {**before, **said}.items() if found}
        if after and after != before:
            with stage_bytes(self._path, (json.dumps(dict(sorted(after.items())), indent=1, default=str) + "\n").encode()):
                yield
            return
        yield
        if not after:
            self._path.unlink(missing_ok=True)

    def forget(self, study: str) -> None:
        """Forget what was said about ``study``, which somebody has removed."""
        self.keep({study: {}})


def _is_said(name: str, value: Any) -> bool:
    is_from_manifest = name == "marked" and isinstance(value, dict) and value.get("source") == "manifest"
    return name not in _NOT_SAID and not is_from_manifest
