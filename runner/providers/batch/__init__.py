"""The batch APIs of providers: one file of requests, answered within a day at a lower price."""
