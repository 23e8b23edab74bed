"""One socket for each running session: commands that steer it go in, and what it is doing comes out."""
