"""Take out of a data set what a scan found in it: rows, or single tokens, by their pull."""
