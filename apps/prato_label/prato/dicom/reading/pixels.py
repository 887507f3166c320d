"""The pixels of a cine, read file by file, whatever they are compressed with."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from prato.data.nifti_head import MAX_VOXEL_BYTES
from prato.dicom.reading.files import DicomError, SourceFile
from prato.dicom.reading.headers import Frame

#: Of all phases together, as 16 bits each.
_MAX_BYTES = 4 * MAX_VOXEL_BYTES


def read_pixels(cine: Sequence[Sequence[Frame]]) -> np.ndarray:
    """(X, Y, Z, T) = (column, row, slice, phase) of ``cine[k][t]``, slice k in phase t: integers as stored, at most 32 bits, or float32
    where the files rescale them; the brighter a pixel is to be shown, the larger, also in files that store it the other way round.

    Raises:
        DicomError: naming the file that is cut short, damaged, or compressed in a way that nothing here decodes; more voxels than are read;
            values that cannot be rescaled.
    """
    places: dict[SourceFile, list[tuple[int, int, Frame]]] = defaultdict(list)  # an archive may hold two files of one name
    for k, frames in enumerate(cine):
        for t, frame in enumerate(frames):
            places[frame.file].append((k, t, frame))
    first = cine[0][0]
    shape = (first.columns, first.rows, len(cine), len(cine[0]))
    check_size(math.prod(shape), "the cine")
    is_rescaled = any(frame.rescale != (1.0, 0.0) for frames in cine for frame in frames)
    if not all(math.isfinite(value) for frames in cine for frame in frames for value in frame.rescale):
        raise DicomError("its RescaleSlope or RescaleIntercept is no number")
    if any(frame.rescale[0] == 0 for frames in cine for frame in frames):
        raise DicomError("its RescaleSlope is 0, which would make all pixels the same")
    array = np.zeros(shape, np.float32 if is_rescaled else np.uint8)
    sums = np.full(shape[2:], np.nan)  # of the largest and the smallest value that an inverted image can have
    for own in places.values():
        images, total = _decode(own[0][2])
        if not is_rescaled and not np.can_cast(images.dtype, array.dtype):
            array = array.astype(np.promote_types(array.dtype, images.dtype.newbyteorder("=")))
        for k, t, frame in own:
            slope, intercept = frame.rescale
            image = images[frame.number]
            with np.errstate(over="ignore", invalid="ignore"):
                array[:, :, k, t] = (image * slope + intercept if is_rescaled else image).T
            sums[k, t] = np.nan if total is None else total * slope + 2 * intercept
    array = _inverted_alike(array, sums)
    if is_rescaled and not np.isfinite(array).all():
        raise DicomError("its RescaleSlope and RescaleIntercept give values that are not finite numbers")
    return array if is_rescaled else _smallest(array)


def read_frame(frame: Frame) -> np.ndarray:
    """(rows, columns), as ``read_pixels`` has them before they are rescaled.

    Raises:
        DicomError: as ``read_pixels``.
    """
    return np.asarray(_decode(frame)[0][frame.number])


def hash_pixels(frames: Sequence[Frame]) -> list[bytes]:
    """Of each frame, what only frames with the same pixels have; those that cannot be read are like none."""
    places: dict[SourceFile, list[int]] = defaultdict(list)
    for n, frame in enumerate(frames):
        places[frame.file].append(n)
    found = [str(n).encode() for n in range(len(frames))]
    for own in places.values():
        try:
            images, total = _decode(frames[own[0]])
        except DicomError:  # whoever reads it is told
            continue
        for n in own:
            scale = repr((images.shape[1:], frames[n].rescale, total)).encode()
            found[n] = hashlib.sha256(scale + images[frames[n].number].astype("<i8").tobytes()).digest()
    return found


def _decode(frame: Frame) -> tuple[np.ndarray, int | None]:
    """(N, rows, columns) of the file that ``frame`` is in, bright pixels large, and what each value and its inverse make together; None
    where the values stand as stored."""
    name = frame.file.name
    try:
        with frame.file.open() as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(stream, force=True)
            _complete(dataset)
            check_size(int(dataset.NumberOfFrames) * frame.rows * frame.columns, name)
            images = dataset.pixel_array
    except DicomError:
        raise
    except Exception as error:  # pydicom and its decoders raise whatever a damaged file leads them to
        syntax = str(getattr(getattr(locals().get("dataset"), "file_meta", None), "TransferSyntaxUID", "") or "")
        how = f", {pydicom.uid.UID(syntax).name}" if syntax else ""
        raise DicomError(f"the pixels of {name} cannot be read (cut short, damaged{how})") from error
    images = images.reshape(-1, frame.rows, frame.columns)
    if images.dtype.kind not in "iu":
        raise DicomError(f"the pixels of {name} are not whole numbers")
    images = _stored_bits(images, dataset)
    # of MONOCHROME1 the smallest value is white (PS3.3, C.7.6.3.1.2)
    if dataset.get("PhotometricInterpretation") != "MONOCHROME1":
        return images, None
    total = -1 if images.dtype.kind == "i" else 2 ** int(dataset.BitsStored) - 1
    return (~images, total) if total < 0 else (images.dtype.type(total) - images, total)


def _complete(dataset: Dataset) -> None:
    """Say what goes without saying where a file does not: its header was read as if it did, and pydicom decodes no pixels without."""
    if "TransferSyntaxUID" not in dataset.file_meta:  # as sent over a network, without a preamble; pydicom has seen how it is written
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if dataset.is_implicit_VR else ExplicitVRLittleEndian
    for name, usual in (("NumberOfFrames", 1), ("SamplesPerPixel", 1), ("PhotometricInterpretation", "MONOCHROME2")):
        if not dataset.get(name):
            setattr(dataset, name, usual)


def _stored_bits(images: np.ndarray, dataset: Dataset) -> np.ndarray:
    """The values alone (PS3.5, 8.1.1): beside them lies what older scanners draw over the image, or nothing that counts."""
    allocated, stored, high = 8 * images.dtype.itemsize, dataset.get("BitsStored"), dataset.get("HighBit")
    if stored is None or high is None or not 0 < stored <= high + 1 <= allocated or stored == allocated:
        return images
    return (images << (allocated - high - 1)) >> (allocated - stored)  # with the sign of signed values


def _inverted_alike(array: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """``array`` (X, Y, Z, T), whose images were each inverted within the range of their own file, with all of them in one range.

    Args:
        sums: (Z, T), of the two ends of each image's range; NaN for one that was not inverted.
    """
    inverted = ~np.isnan(sums)
    apart = np.where(inverted, sums[inverted].max(initial=-np.inf) - sums, 0)
    if not apart.any():
        return array
    return array + apart.astype(array.dtype if array.dtype.kind == "f" else np.int64)


def check_size(count: int, name: str) -> None:
    """Refuse what would fill the memory: compressed pixels may take any number of times their file's size."""
    if 2 * count > _MAX_BYTES:
        raise DicomError(f"{name} holds more voxels ({2 * count / 2**20:.0f} MiB) than the {_MAX_BYTES // 2**20} MiB accepted here")


def _smallest(array: np.ndarray) -> np.ndarray:
    """In the smallest type that NIfTI readers take for grey values."""
    low, high = int(array.min()), int(array.max())
    for kind in (np.int16, np.uint16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return array.astype(kind)
    return array
