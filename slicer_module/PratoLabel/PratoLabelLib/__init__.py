"""What the PrATo Label module is made of; see docs/slicer_tested.md."""
