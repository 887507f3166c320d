"""Clicks that correct a mask, one after the other, with undo."""
