"""The results of an inference: the mask as a file in the format that the client reads, the token map as JSON."""

from __future__ import annotations

import base64
import os
import tempfile
import zlib
from pathlib import Path
from typing import Any

import nrrd
import numpy as np

from prato.data.nifti import Volume, gzip_bytes, volume_chunks
from prato.data.orientation import LPS_TO_RAS


def write_mask(mask: Volume, extension: str, dtype: str = "uint8") -> str:
    """A new temporary file with ``mask``, (X, Y, Z) or (X, Y, Z, T) on its image's grid; the server removes it once it is sent.

    It need not outlive a power cut, so nothing waits for the disk.

    Args:
        extension: one of ``prato.inference.request.RESULT_EXTENSIONS``. dtype: one of ``RESULT_DTYPES``.
    """
    handle, path = tempfile.mkstemp(prefix="prato_", suffix=extension)
    os.close(handle)
    try:
        array = mask.array.astype(dtype, copy=False)
        if extension == ".nrrd":
            # NRRD's common space is LPS: x and y change sign. Who asks for it, reads it and the image with ITK
            lps = LPS_TO_RAS @ mask.itk_affine
            directions = np.full((array.ndim, 3), np.nan)  # of time: none
            directions[:3] = lps[:3, :3].T
            kinds = ["domain", "domain", "domain", "list"][: array.ndim]  # ITK knows no other axis outside of space
            header = {"space": "left-posterior-superior", "space directions": directions, "space origin": lps[:3, 3]}
            nrrd.write(path, array, {**header, "kinds": kinds, "encoding": "raw"})
        else:
            chunks = volume_chunks(mask.with_array(array))
            with Path(path).open("wb") as file:
                file.writelines(chunks if extension == ".nii" else [gzip_bytes(chunks, level=1)])
    except BaseException:  # a full disk: nobody is told of the file, so nobody would remove it
        os.unlink(path)
        raise
    return path


def encode_tokens(tokens: np.ndarray) -> dict[str, Any]:
    """``tokens`` (X, Y, Z) in 0..1 as the reply's ``tokens``: bytes of 255 * share in C order, deflated, in base64."""
    levels = np.rint(tokens * 255).astype(np.uint8)
    data = base64.b64encode(zlib.compress(np.ascontiguousarray(levels).tobytes(), 6)).decode("ascii")
    return {"shape": list(levels.shape), "dtype": "uint8", "order": "C", "encoding": "zlib+base64", "data": data}
