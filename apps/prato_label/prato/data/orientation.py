"""Where a NIfTI header says that its voxels lie, and how large they are: one reading, for server, importer, scripts, batch and training.

A header may answer three times: by the sform (a matrix), by the qform (a rotation, with the voxel sizes of ``pixdim``) and by ``pixdim``
alone. nibabel asks the sform first; ITK, and with it 3D Slicer, often the qform, and ``pixdim`` for every voxel size. Where the answers
agree, nothing here matters. Where one of them cannot be right, another is used, and a warning says so; where none can, the file is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from nibabel.quaternions import quat2mat

from prato.data.nifti_head import VolumeError

#: Largest cosine between two voxel axes that still counts as a right angle: some programs round the angles of oblique slices to so much.
_MAX_COSINE = 2e-3
#: Voxel edges in mm between which an image is believed; beyond, metres or micrometres were taken for millimetres.
_EDGE_MM = (0.02, 30.0)
#: Longest side of a slice in mm that is believed: several times what fits into a scanner.
_SIDE_MM = 3000.0
#: An sform with columns of length 1, up to this, beside another voxel size in ``pixdim`` holds directions alone (all of ACDC).
_UNIT = 1e-3
#: Share from which the voxel sizes of sform and ``pixdim`` are said to differ.
_DIFFERENT = 0.01
#: Of the kinds of space that NIfTI numbers.
_LAST_CODE = 5
#: From the space of DICOM, ITK and NRRD, whose axes point to the left and to the back, to NIfTI's; and from there to the other.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SIGNS = LPS_TO_RAS.diagonal()[:3]
#: Millimetres in the unit that ``xyzt_units`` names.
_MILLIMETRES = {1: 1000.0, 3: 0.001}
#: What was repaired, by the name under which it is reported; in the words of a log.
ORIENTATION_WARNINGS = {
    "orientation_unknown": "its header gives no orientation: left and right, or head and feet, may be swapped",
    "orientation_from_qform": "its header's sform cannot be used: orientation and voxel size are those of the qform",
    "voxel_size_uncertain": "its header gives more than one voxel size, and the more plausible one is used: volumes may be wrong",
    "voxel_size_unknown": "its header does not say how thick its only slice is: volumes are computed for a slice of 1 mm",
    "unit_ignored": "its header names a unit of length that cannot be right: its values are taken as millimetres",
}


@dataclass(frozen=True)
class Orientation:
    """``affine`` (4x4 float64): voxel index -> RAS+ millimetres. ``warnings``: names of ``ORIENTATION_WARNINGS``, for what was repaired."""

    affine: np.ndarray
    warnings: tuple[str, ...] = ()


def read_orientation(header: nib.Nifti1Header, shape: Sequence[int], name: str) -> Orientation:
    """Orientation and voxel size of an image of ``shape`` (three axes) with this ``header``; ``name`` is what messages call it.

    Raises:
        VolumeError: neither sform nor qform nor ``pixdim`` can be used; the message names the fault of the first that claims to be.
    """
    unit = _unit(header)
    try:
        return _read(header, shape, name, unit)
    except VolumeError:
        if unit == 1.0:
            raise
        found = _read(header, shape, name, 1.0)
        return Orientation(found.affine, (*found.warnings, "unit_ignored"))


def check_affine(affine: np.ndarray, name: str) -> None:
    """Refuse an affine that is not 4x4, not finite, singular or sheared.

    Raises:
        VolumeError: naming the fault.
    """
    if affine.shape != (4, 4):
        raise VolumeError(f"{name} has an affine of shape {affine.shape}: give one of 4x4 numbers, from voxels to RAS+ mm.")
    if not np.isfinite(affine).all():
        raise VolumeError(f"{name} has an affine with values that are not finite: export it again with its orientation.")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if (lengths < 1e-6).any():
        raise VolumeError(f"{name} has an affine without a voxel size on some axis (singular): export it again with its spacing in mm.")
    if not _are_believable(lengths).all():
        edges = " x ".join(f"{mm:.3g}" for mm in lengths)
        raise VolumeError(f"{name} has voxels of {edges} mm, which no scanner makes: export it again with its spacing in mm.")
    axes = affine[:3, :3] / lengths
    if np.abs(axes.T @ axes - np.eye(3)).max() > _MAX_COSINE:
        raise VolumeError(f"{name} has a sheared (non-orthonormal) affine: resample it to a grid with right angles and load that.")


def check_field_of_view(affine: np.ndarray, shape: Sequence[int], name: str) -> None:
    """Refuse an image, ``shape`` voxels on three axes, that is so large that no scanner makes it: a network would take hours for it.

    Raises:
        VolumeError: it is longer than three metres along more than one axis, as no stack of slices is.
    """
    _, side, longest = sorted(np.linalg.norm(affine[:3, :3], axis=0) * np.asarray(shape))
    if side > _SIDE_MM:
        raise VolumeError(f"{name} is {longest:.0f} x {side:.0f} mm large, which no scanner makes: export it again with its spacing in mm.")


def list_readings(header: nib.Nifti1Header, shape: Sequence[int]) -> list[np.ndarray]:
    """Every affine (voxel -> RAS+ mm) by which some program lays an image with this ``header``, nibabel's first."""
    signed, unit = _pixdim(header), _unit(header)
    edges = _usable(np.abs(signed))
    codes = {"sform_code": _sform(header), "qform_code": _qform(header, edges)}
    forms = [form for code, form in codes.items() if int(header[code]) > 0 and _has_axes(form)]
    if not forms or any(int(header[code]) > _LAST_CODE for code in codes):  # nibabel believes no form whose code it does not know
        forms += [_from_edges(edges, shape), *(np.diag([x, y, z, 1.0]) for x, y, z in (edges, edges * _SIGNS, _usable(signed) * _SIGNS))]
    found: list[np.ndarray] = []
    for form in forms:
        lengths = np.linalg.norm(form[:3, :3], axis=0)
        # nibabel keeps a form's own voxel size and knows no units; ITK takes the size from pixdim, and older ones no unit for the position
        for size, scale, shift in ((lengths, 1.0, 1.0), (edges, 1.0, 1.0), (edges, unit, 1.0), (lengths, unit, unit), (edges, unit, unit)):
            affine = form.copy()
            affine[:3, :3] *= scale * size / _usable(lengths)
            affine[:3, 3] *= shift
            if not any(np.allclose(affine, other, rtol=0, atol=1e-5) for other in found):
                found.append(affine)
    return found


def itk_affine(header: nib.Nifti1Header) -> np.ndarray | None:
    """The affine (voxel -> RAS+ mm) by which ITK 5.4 lays an image with this ``header``; None where it refuses to.

    Source: ``NiftiImageIO::SetImageIOOrientationFromNIfTI`` and ``ReadImageInformation`` of ITK.
    """
    edges = _usable(_pixdim(header))
    has_sform, has_qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    sform, qform = _sform(header), _qform(header, edges)
    is_same = np.isfinite(sform).all() and np.isfinite(qform).all() and np.allclose(sform, qform, atol=1e-4)
    is_sform_preferred = not has_qform or int(header["sform_code"]) == 1 or is_same
    if not has_sform and not has_qform:
        form = LPS_TO_RAS
    elif has_sform and _is_rigid(sform) and is_sform_preferred:
        form = sform
    elif has_qform:
        form = qform
    else:
        return None
    if not _has_axes(form):
        return None
    affine = form.copy()
    affine[:3, :3] *= edges / np.linalg.norm(form[:3, :3], axis=0)
    affine[:3] *= _unit(header)
    return affine


def _read(header: nib.Nifti1Header, shape: Sequence[int], name: str, unit: float) -> Orientation:
    """As ``read_orientation``, with the header's lengths in units of ``unit`` mm."""
    edges = _pixdim(header)
    codes = {"sform_code": _sform(header), "qform_code": _qform(header, np.abs(edges))}
    fault: VolumeError | None = None
    for form in (form for code, form in codes.items() if int(header[code]) > 0):
        try:
            found = _repair(form, edges, unit, shape, name)
        except VolumeError as error:
            fault = fault or error
        else:
            return Orientation(found.affine, (*found.warnings, *(["orientation_from_qform"] if fault else [])))
    if fault is not None:
        raise fault
    found = _repair(_from_edges(np.abs(edges), shape), edges, unit, shape, name)
    return Orientation(found.affine, ("orientation_unknown", *found.warnings))


@np.errstate(invalid="ignore", over="ignore")
def _repair(form: np.ndarray, edges: np.ndarray, unit: float, shape: Sequence[int], name: str) -> Orientation:
    """``form`` in mm, with voxel sizes that can be right: those of ``edges`` (``pixdim``) where its own cannot.

    Raises:
        VolumeError: neither can, or as ``check_affine`` and ``check_field_of_view``.
    """
    affine, has_one = _with_one_slice(form, shape), np.asarray(shape) == 1
    lengths, given = np.linalg.norm(affine[:3, :3], axis=0), np.abs(edges) * unit
    only_directions = (np.abs(lengths - 1.0) < _UNIT).all() and _are_believable(given).all()
    own = given if only_directions else lengths * unit
    wanted = np.where(~_are_believable(own) & _are_believable(given) & (lengths > 0), given, own)
    is_settled = np.isclose(wanted, lengths * unit, rtol=_UNIT) & np.isclose(edges * unit, wanted, rtol=_DIFFERENT)
    warnings = ["voxel_size_uncertain"] if not (is_settled | has_one).all() else []
    unknown = ~_are_believable(wanted) & has_one
    if unknown.any():
        wanted = np.where(unknown, 1.0, wanted)
        warnings.append("voxel_size_unknown")
    affine[:3] *= unit
    is_changed = (wanted != lengths * unit) & (lengths > 0)
    affine[:3, :3] *= np.divide(wanted, lengths * unit, out=np.ones(3), where=is_changed)
    check_affine(affine, name)
    check_field_of_view(affine, shape, name)
    return Orientation(affine + 0.0, tuple(warnings))  # no minus zeros


def _with_one_slice(form: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """``form``, where the direction across a single slice is made up if it is missing: nothing lies beside the slice."""
    affine = form.copy()
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    flat = [axis for axis in range(3) if lengths[axis] < 1e-6]
    if len(flat) == 1 and shape[flat[0]] == 1:
        one, other = (affine[:3, axis] for axis in range(3) if axis != flat[0])
        across = np.cross(one, other)
        affine[:3, flat[0]] = across / max(float(np.linalg.norm(across)), 1e-12) * 1e-5  # a length that nobody believes
    return affine


def _unit(header: nib.Nifti1Header) -> float:
    """Millimetres in the header's unit of length."""
    return _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)


def _usable(edges: np.ndarray) -> np.ndarray:
    """``edges``, 1 where they are 0 or no number: what ITK and nibabel make of such voxel sizes."""
    return np.where(np.isfinite(edges) & (edges != 0), edges, 1.0)


def _pixdim(header: nib.Nifti1Header) -> np.ndarray:
    """The voxel sizes (3,) as they stand; through their shortest decimal text, 1.5625 stays 1.5625 and 1.4 is not 1.39999998."""
    return np.array([float(str(v)) for v in header["pixdim"][1:4]])


def _sform(header: nib.Nifti1Header) -> np.ndarray:
    return np.array([*(header[row] for row in ("srow_x", "srow_y", "srow_z")), (0, 0, 0, 1)], dtype=np.float64)


def _qform(header: nib.Nifti1Header, edges: np.ndarray) -> np.ndarray:
    """The qform's affine with these voxel sizes; NaN where the quaternion is none."""
    b, c, d = (float(header[f"quatern_{part}"]) for part in "bcd")
    affine, rotation = np.eye(4), np.full((3, 3), np.nan)
    if np.isfinite((b, c, d)).all():
        # rounding may leave the three a little longer than 1, or shorter, which NIfTI's own library takes for a half turn; quat2mat takes a
        # quaternion of any length
        square = 1.0 - (b * b + c * c + d * d)
        rotation = quat2mat((np.sqrt(square) if square > 1e-7 else 0.0, b, c, d))
    flip = -1.0 if float(header["pixdim"][0]) < 0 else 1.0
    with np.errstate(invalid="ignore"):
        affine[:3, :3] = rotation * (edges * (1.0, 1.0, flip))
    affine[:3, 3] = [float(header[f"qoffset_{axis}"]) for axis in "xyz"]
    return affine


def _from_edges(edges: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """What nibabel makes of a header without forms: first axis to the left, the origin in the image's middle."""
    affine = np.diag([-edges[0], edges[1], edges[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape[:3]) - 1) / 2.0)
    return affine


def _are_believable(edges: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (edges > _EDGE_MM[0]) & (edges < _EDGE_MM[1])


def _has_axes(form: np.ndarray) -> bool:
    return bool(np.isfinite(form).all() and (np.linalg.norm(form[:3, :3], axis=0) > 0).all())


def _is_rigid(form: np.ndarray) -> bool:
    """Whether ITK takes the columns of ``form`` for right angles."""
    if not _has_axes(form):
        return False
    axes = form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0)
    return bool(np.abs(axes @ axes.T - np.eye(3)).max() <= 1e-4)
