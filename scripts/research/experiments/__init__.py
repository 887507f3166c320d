"""The paper's experiments as data: each described by a plan file, trained, measured and written down in the same way."""
