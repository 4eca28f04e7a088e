"""What can go wrong with a task."""

from online import OnlineError


class UtilityError(OnlineError, ValueError):
    """A task that cannot be checked as it stands; one sentence with cause and mend."""
