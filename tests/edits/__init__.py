"""The edit harness: one file of rows, edited and renamed between sessions. See ``docs/reference/durability.md``."""
