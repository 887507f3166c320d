"""Carries what a labeller corrected in some phases of a cine to the others."""
