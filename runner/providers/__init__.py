"""The model APIs: dialects, which do no I/O, and the HTTP client, the only code of the package that uses the network."""
