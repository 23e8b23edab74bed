"""The store: one SQLite file. No other room contains SQL."""
