"""What a person sees while a session goes on: the same in a terminal, a notebook and a log, for the command and for a program."""
