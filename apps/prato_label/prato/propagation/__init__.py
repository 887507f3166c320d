"""What a labeller corrected in some phases of a cine, carried to the others."""
