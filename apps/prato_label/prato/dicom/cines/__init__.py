"""Images sorted into short-axis cines: taken apart into blocks, joined to stacks, chosen, put in order, and named."""
