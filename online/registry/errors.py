"""The error of the registry."""

from guard.errors import SirlError


class RegistryError(SirlError):
    """The registry, or a version in it, cannot be used as asked."""
