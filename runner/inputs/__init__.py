"""Prompt files: from their rows to the items that are still to be done."""
