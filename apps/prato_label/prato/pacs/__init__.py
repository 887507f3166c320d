"""A PACS in place of a studies folder: which short-axis cines it holds, fetched as they are opened, and labels sent back."""
