"""Tables of rows, in files and DataFrames: read batch by batch, with errors that name row and column."""
