"""Search for knobs: which candidates are tried, and how few runs decide between them."""
