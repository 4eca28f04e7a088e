"""The `sirl` command: a module a subcommand."""
