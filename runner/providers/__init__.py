"""The model APIs: their dialects, which do no I/O, and the HTTP client, which is the only part that uses the network."""
