"""What the PrATo Label module is made of; see docs/slicer.md."""
