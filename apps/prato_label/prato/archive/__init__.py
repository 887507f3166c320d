"""Labelling of an archive: many studies, one model, no labeller."""
