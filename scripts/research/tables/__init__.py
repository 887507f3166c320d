"""The paper's tables, claims and figures from what its experiments left in docs/results/paper; nothing in them is typed by hand."""
