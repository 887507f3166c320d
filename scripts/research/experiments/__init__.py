"""The paper's experiments as data: each a row of the matrix, trained, measured and written down in the same way."""
