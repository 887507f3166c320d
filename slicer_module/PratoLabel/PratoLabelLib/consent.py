"""The labeller's consent, before an image leaves the machine."""

from __future__ import annotations

from urllib.parse import urlsplit

import slicer.util

from PratoLabelLib.translation import translator

_ = translator(__file__)


def may_send_image(name: str, address: str) -> bool:
    """Ask whether an image may be sent to the server at ``address`` (``http://host:port``), as the study ``name``.

    The answer "yes" can be kept, for that server alone; Slicer never keeps a "no".
    """
    host = urlsplit(address).netloc
    return slicer.util.confirmOkCancelDisplay(
        _(
            "The image will be sent to the server {host}, which stores it among its studies, as {name}: whoever may use that server can "
            "see it. It is sent without its DICOM header, but with that name: make sure that the name does not identify the patient.\n\n"
            "Send it?"
        ).format(name=name, host=host),
        windowTitle=_("Send an image to a server"),
        # "/" would make groups of settings
        dontShowAgainSettingsKey=f"PratoLabel/DontConfirmSendingTo {host}",
    )
