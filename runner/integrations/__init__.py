"""Other ways in and out: runs as tools of an agent."""
