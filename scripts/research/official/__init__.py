"""The authors' own code beside the baselines here, one file a method: the same weights and tokens, number by number."""
