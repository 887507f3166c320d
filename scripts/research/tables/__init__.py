"""The paper's tables and claims from the results in docs/results; no number in them is typed by hand."""
