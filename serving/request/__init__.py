"""The HTTP edge: options in, report out, nothing else touched."""
