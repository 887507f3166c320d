"""Every kind of request that the client makes, and what its failures must look like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from PratoLabelLib.server.client import Client
from PratoLabelLib.server.connection import ServerError

#: Every kind of request; the folder holds ``image.nii.gz``.
CALLS: dict[str, Callable[[Client, Path], Any]] = {
    "info": lambda client, _: client.info(),
    "studies": lambda client, _: client.studies(),
    "next": lambda client, _: client.next_study("first"),
    "infer": lambda client, _: client.infer("prato_unetr", "heart", {"prune": "off"}),
    "upload": lambda client, folder: client.upload_image("heart", folder / "image.nii.gz"),
    "submit": lambda client, folder: client.submit("heart", folder / "image.nii.gz", {}),
    "train": lambda client, _: client.train("prato_unetr", {}),
    "training": lambda client, _: client.training("prato_unetr"),
    "stop": lambda client, _: client.stop_training(),
}


def failure(call: Callable[[], Any]) -> ServerError:
    """The error of ``call``, which is one sentence."""
    with pytest.raises(ServerError) as caught:
        call()
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    assert "urllib3" not in sentence
    return caught.value
