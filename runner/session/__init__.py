"""One session of a run: prepare it, wire the parts together, run them, sum up."""
