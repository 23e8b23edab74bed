"""Benchmarks: real ``runner`` processes against servers on loopback. They need a checkout with the project installed."""
