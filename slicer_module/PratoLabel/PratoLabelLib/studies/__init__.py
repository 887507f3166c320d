"""A study from its opening to its label: cines and volumes, proposals, drafts, versions."""
