"""What labellers hand in: every version of a label, where it comes from, and how two of them differ."""
