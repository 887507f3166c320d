"""Where a cine came from: its sidecar, written and read back, and what can be found again by it, its source and its patient."""
