"""The `sirl` command: a module a subcommand, each a few lines around the operation that does it."""
