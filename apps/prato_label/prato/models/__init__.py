"""Networks that take a prompt and drop tokens, behind one contract (``base``), found by name (``registry``)."""
