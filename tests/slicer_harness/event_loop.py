"""Qt's event loop as 3D Slicer runs it: the interpreter's lock is held all the while, also while nothing happens.

PySide6 lets go of the lock where it calls Qt; PythonQt does not: in 3D Slicer a thread of Python gets on only while Python code runs on the
main thread, and well only while that code waits. ctypes' PyDLL holds the lock as well.
"""

from __future__ import annotations

import ctypes
import sys

from PySide6 import QtCore

_QT = ctypes.PyDLL({"darwin": "QtCore", "win32": "Qt6Core.dll"}.get(sys.platform, "libQt6Core.so.6"))
_process_events = _QT["_ZN16QCoreApplication13processEventsE6QFlagsIN10QEventLoop17ProcessEventsFlagEE"]
_process_events.argtypes, _process_events.restype = [ctypes.c_int], None


def process_events() -> None:
    """Handle what is due, and delete what was to be deleted later."""
    _process_events(QtCore.QEventLoop.ProcessEventsFlag.AllEvents.value)
    QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete.value)  # left to the real loop otherwise


def hold(seconds: float) -> None:
    """Let time pass, in which no other thread of Python runs."""
    ctypes.PyDLL(None).usleep(int(1e6 * seconds))
