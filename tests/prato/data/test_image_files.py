"""Images in every format keep their values."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from prato.data.image_files import writable

KINDS = [*"bBhHiIqQefdg"]


@example(np.array([1 / 3, -2.0], np.longdouble))
@example(np.array([1 / 3, 6.0], np.float16))
@example(np.array([-1, 2**31], np.int64))
@given(st.sampled_from(KINDS).flatmap(lambda kind: arrays(np.dtype(kind), array_shapes(max_dims=3, max_side=3))))
def test_what_is_written_has_the_same_values_in_a_type_that_every_reader_takes(array: np.ndarray) -> None:
    written = writable(array)
    assert written.dtype in (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64)
    kept = array.astype(np.float64) if array.dtype == np.longdouble or written.dtype == np.float64 else array  # 53 bits, if it must be
    assert np.array_equal(written, kept, equal_nan=written.dtype.kind == "f")
    if array.dtype in (np.int64, np.uint64) and written.dtype == np.float64:
        assert array.max() > 2**32 - 1 or array.min() < -(2**31) or (array.min() < 0 and array.max() > 2**31 - 1)
