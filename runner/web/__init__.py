"""The live page and its API: a process of its own, which reads the store and speaks to the sockets of running sessions."""
