"""The engine: from items to outcomes, with retries and rate limits; it knows neither the network nor the disk."""
