"""What to do: settings, job files, endpoints, keys and plug-ins."""
