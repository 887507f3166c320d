"""A PACS as the studies folder: which short-axis cines it holds, fetched as they are opened, and labels sent back."""
