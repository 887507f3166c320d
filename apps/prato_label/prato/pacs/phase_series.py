"""A cine for viewers that show no cines but volumes, such as OHIF's MONAI Label mode: each of its phases as a series of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prato.dicom.origin.references import uid_from_content
from prato.pacs.catalog import RemoteCine

_SERIES, _IMAGE, _NUMBER, _DESCRIPTION, _FRAMES = "0020000E", "00080018", "00200011", "0008103E", "00280008"
_REFERENCED_SERIES, _REFERENCED_IMAGES, _REFERENCED_IMAGE = "00081115", "0008114A", "00081155"
#: Series numbers of the phases of one series lie closer together than those of two.
_STEP = 1000


@dataclass(frozen=True)
class PhaseSeries:
    """The series that stands for ``phase`` (from 0) of ``cine``."""

    cine: RemoteCine
    phase: int

    @property
    def uid(self) -> str:
        """The same whenever it is asked for."""
        return uid_from_content("phase", self.cine.study_instance_uid, self.cine.study, self.phase)


def find_phase_series(cines: Iterable[RemoteCine], uid: str) -> PhaseSeries | None:
    """The one of that ``uid``, of any phase of ``cines``."""
    every = (PhaseSeries(cine, phase) for cine in cines for phase in range(cine.phases))
    return next((one for one in every if one.uid == uid), None)


def split_into_phases(headers: Iterable[Mapping[str, Any]], cines: Iterable[RemoteCine]) -> list[dict[str, Any]]:
    """``headers`` (DICOM JSON) of the objects of an examination, where every phase of its ``cines`` is a series; these in order, and last.

    What was drawn on images of one phase refers to its series. Objects that hold several images stay as they are.
    """
    phases = {image: PhaseSeries(cine, n % cine.phases) for cine in cines for n, (_, image) in enumerate(cine.images)}
    others, found, series = [], [], dict[str, str]()
    for header in headers:
        phase = phases.get(_first(header, _IMAGE, ""))
        if phase is None or int(_first(header, _FRAMES, 1)) > 1:
            others.append(dict(header))
            continue
        said = f"phase {phase.phase + 1} of {phase.cine.phases}"
        described = f"{_first(header, _DESCRIPTION, '')}, {said}".removeprefix(", ")
        number = int(_first(header, _NUMBER, 0)) * _STEP + phase.phase + 1
        new = {
            _SERIES: {"vr": "UI", "Value": [phase.uid]},
            _DESCRIPTION: {"vr": "LO", "Value": [described]},
            _NUMBER: {"vr": "IS", "Value": [number]},
        }
        found.append({**header, **new})
        series[_first(header, _IMAGE, "")] = phase.uid
    return [_refer(other, series) for other in others] + sorted(
        found, key=lambda header: int(header[_NUMBER]["Value"][0])
    )  # viewers show series as they come


def _refer(header: dict[str, Any], series: Mapping[str, str]) -> dict[str, Any]:
    """``header``, which refers to the one of ``series`` (by SOP instance UID) that all images are of that it refers to, if there is one."""
    referred = header.get(_REFERENCED_SERIES, {}).get("Value") or []
    images = [image for item in referred for image in item.get(_REFERENCED_IMAGES, {}).get("Value") or []]
    uids = {series.get(_first(image, _REFERENCED_IMAGE, "")) for image in images}
    if len(uids) != 1 or None in uids:
        return header
    item = {_SERIES: {"vr": "UI", "Value": [*uids]}, _REFERENCED_IMAGES: {"vr": "SQ", "Value": images}}
    return {**header, _REFERENCED_SERIES: {"vr": "SQ", "Value": [item]}}


def real_address(path: str, cines: Iterable[RemoteCine]) -> str:
    """``path`` (studies/…/series/…/instances/…) with the series that the PACS knows, where it names one of ours."""
    parts = path.split("/")
    if parts[0::2][:3] != ["studies", "series", "instances"] or len(parts) < 6:
        return path
    series = {image: real for cine in cines for real, image in cine.images if cine.study_instance_uid == parts[1]}
    parts[3] = series.get(parts[5], parts[3])
    return "/".join(parts)


def _first(header: Mapping[str, Any], tag: str, missing: Any) -> Any:
    """The first value of ``tag``; ``missing`` where it has none."""
    values = header.get(tag, {}).get("Value")
    return values[0] if values else missing
