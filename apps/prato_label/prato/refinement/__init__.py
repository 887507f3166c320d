"""Masks refined where a labeller clicks: what a stroke is, how the refiner sees it, and what comes back."""
