"""What the figures of several pages share."""

from __future__ import annotations

import math

from matplotlib.figure import Figure


def legend_below(figure: Figure, columns: int) -> None:
    """Lay ``figure`` out with one legend of all its panels under them, where it covers no data; a label of several panels is in it once."""
    handles = {label: handle for axis in figure.axes for handle, label in zip(*axis.get_legend_handles_labels())}
    figure.legend([*handles.values()], [*handles], loc="lower center", ncols=columns, frameon=False, fontsize=9)
    inches = 0.22 * math.ceil(len(handles) / columns) + 0.1
    figure.tight_layout(rect=(0, inches / figure.get_figheight(), 1, 1))
