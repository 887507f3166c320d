"""How much a study would teach the model that segments it: scores in 0..1, higher for more."""
