"""Volumes, ROIs, segmentations, sequences and views of the MRML scene."""
