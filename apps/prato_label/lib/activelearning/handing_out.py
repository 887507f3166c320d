"""Hands out the next study: two clients that ask at the same moment, even on different servers of the folder, get different ones."""

from __future__ import annotations

import logging
import time
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.app import MONAILabelApp

from lib.datastore.studies import StudiesDatastore

logger = logging.getLogger(__name__)
#: How often one who asks may be forestalled; then two label the same study, rather than one waiting for ever.
_TRIES = 20
#: What a strategy's reply says of its choice; what a client has noted about a study under such a name is not the strategy's word.
_OF_THE_CHOICE = {"id", "phase", "score", "reason", "scored", "unlabelled", "model_version", "warnings"}


def hand_out_study(app: MONAILabelApp, store: StudiesDatastore, request: dict[str, Any], client: Any) -> dict[str, Any]:
    """The study that the ``request``'s strategy chooses, with what is known of it, noted as handed out to ``client``.

    A strategy may take seconds. Where somebody else was handed the study meanwhile, or one was removed that it was looking at, it chooses
    again, by what it has found already.

    Raises:
        HTTPException: as the strategy does.
    """
    for tries_left in reversed(range(_TRIES)):
        before, known = store.handed_out(), {*store.list_images()}
        try:
            chosen = app.next_sample({**request, "client_id": client})
        except HTTPException:
            if tries_left and not known.issubset(store.list_images()):  # it may have looked at one that was removed meanwhile
                continue
            raise
        study, handed_out = chosen["id"], {"ts": int(time.time()), "client_id": client}
        info: dict[str, Any] = {}
        try:
            with store.changed_list():
                info = store.get_image_info(study)
                is_free = bool(info) and info.get("strategy") == before.get(study)
                if is_free:
                    store.update_image_info(study, {"strategy": {**(info.get("strategy") or {}), request["strategy"]: handed_out}})
        except OSError as error:  # a labeller can work all the same
            logger.warning("cannot record that %s was handed out (%s)", study, error.strerror)
            is_free = True
        if is_free or tries_left == 0:
            break
    reply = {**{name: value for name, value in info.items() if name not in _OF_THE_CHOICE}, **chosen}
    logger.info("Next sample: %s", reply)
    return reply
