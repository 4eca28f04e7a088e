"""The registry: immutable adapter versions, which of them serves, and how they are shared."""
