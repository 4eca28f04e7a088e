"""What can go wrong with a task."""

from guard.errors import SirlError


class UtilityError(SirlError, ValueError):
    """A task that cannot be checked as it stands; one sentence with cause and mend."""
