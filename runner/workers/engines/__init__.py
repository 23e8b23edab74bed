"""A file for each engine: what places workers, and ends them."""
