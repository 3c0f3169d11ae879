"""Which candidate to choose: the grid's cells, what survives a search, how strong is safe, and what to recommend."""
