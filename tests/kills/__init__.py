"""The kill harness: one run, killed again and again, judged by the server's journal. See ``docs/reference/durability.md``."""
