"""Other people's ways of pruning tokens, each re-made from its mathematics on the UNETR that PrATo runs in."""
