"""The terminal: commands, options, progress, output and exit codes."""
