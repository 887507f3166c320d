"""Colours of the panel's messages: dark on light, so that they can be read in Slicer's light and dark style."""

HINT_STYLE = "background: #e3edf7; color: #1f3a56; padding: 4px;"
ERROR_STYLE = "background: #f8d7da; color: #721c24; padding: 4px;"
WARNING_STYLE = "background: #fff3cd; color: #6b4e00; padding: 4px;"
