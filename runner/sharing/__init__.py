"""Runs of one user that share the limits of an endpoint, a model and a key."""
