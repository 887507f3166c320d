"""Generated hearts in short-axis view: the anatomy, what surrounds it, and studies of two phases or of a whole beat."""
