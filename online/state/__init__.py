"""The state directory: private files, written whole or not at all, shared by several processes."""
