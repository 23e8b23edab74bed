"""Exports: results written to files."""
