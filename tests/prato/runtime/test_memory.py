"""What a process gives back of the memory that it has freed."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

#: 200 MiB in pieces, of which only the last stays: by itself, glibc gives back nothing of what lies below it.
_FREED = """
import sys

import psutil

from prato.runtime.memory import release_free_memory

pieces = [bytearray(b"x" * 2**16) for _ in range(3200)]
del pieces[:-1]
held = psutil.Process().memory_info().rss
release_free_memory()
print(held - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="other C libraries give back what they will"
)
def test_freed_memory_goes_back_to_the_system() -> None:
    released = subprocess.run([sys.executable, "-c", _FREED], capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    assert int(released.stdout) > 100 * 2**20, released.stderr
