"""The mask as a file in the format that the client reads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nrrd
import numpy as np

from prato.data.nifti import gzip_bytes, nifti_bytes
from prato.prompts.request import RequestError

#: The Slicer and OHIF plugins ask for .nrrd; everyone who asks for nothing gets the first.
EXTENSIONS = (".nii.gz", ".nii", ".nrrd")
DTYPES = ("uint8", "uint16")


def mask_format(params: Mapping[str, Any]) -> tuple[str, np.dtype]:
    """File extension and dtype that ``params`` ask for with ``result_extension`` and ``result_dtype``.

    Raises:
        RequestError: one that is not written here.
    """
    extension = params.get("result_extension") or EXTENSIONS[0]
    if extension not in EXTENSIONS:
        raise RequestError(f"result_extension must be one of {', '.join(EXTENSIONS)}, not {extension!r:.40}.")
    dtype = params.get("result_dtype") or DTYPES[0]
    if dtype not in DTYPES:
        raise RequestError(f"result_dtype must be one of {', '.join(DTYPES)}, not {dtype!r:.40}.")
    return extension, np.dtype(dtype)


def write_mask(mask: np.ndarray, affine: np.ndarray, extension: str, dtype: np.dtype) -> str:
    """A new temporary file with ``mask`` (X, Y, Z) on the grid of ``affine`` (voxel -> RAS+ mm); the server removes it once it is sent.

    It need not outlive a power cut, so nothing waits for the disk.
    """
    handle, path = tempfile.mkstemp(prefix="prato_", suffix=extension)
    os.close(handle)
    try:
        array = mask.astype(dtype, copy=False)
        if extension == ".nrrd":
            # NRRD's common space is LPS: x and y change sign
            lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
            header = {"space": "left-posterior-superior", "space directions": lps[:3, :3].T, "space origin": lps[:3, 3]}
            nrrd.write(path, array, {**header, "kinds": ["domain"] * 3, "encoding": "raw"})
        else:
            raw = nifti_bytes(array, affine)
            Path(path).write_bytes(raw if extension == ".nii" else gzip_bytes(raw, level=1))
    except BaseException:  # a full disk: nobody is told of the file, so nobody would remove it
        os.unlink(path)
        raise
    return path
