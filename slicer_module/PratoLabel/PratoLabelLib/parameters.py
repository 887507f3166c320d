"""What the panel is set to, kept in the scene's parameter node: a scene that was saved reopens as it was."""

from __future__ import annotations

from typing import Annotated

from slicer import vtkMRMLMarkupsROINode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


@parameterNodeWrapper
class Parameters:
    """The fields that a widget of PratoLabel.ui is bound to by name, and those that :class:`Choices` keeps.

    Address and annotator belong to the user, not to a scene: they are settings. The token is kept nowhere.
    """

    strategy: str
    roi: vtkMRMLMarkupsROINode
    all_boxes: bool
    live_update: bool
    model: str
    prune: str
    show_tokens: bool
    lock_rv: bool
    lock_myocardium: bool
    lock_lv: bool
    train_model: str
    max_epochs: Annotated[int, WithinRange(1, 1000)] = 10
