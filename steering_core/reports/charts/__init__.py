"""Charts: one function each, from rows of a named query to an Altair chart; reports and explorer draw the same."""
