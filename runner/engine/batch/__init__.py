"""Rows that a provider's batch API answers: files of requests are made, sent, watched, and their answers imported."""
