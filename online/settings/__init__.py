"""Settings: every field in groups, read from file, environment and flags."""
