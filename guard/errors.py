"""Failures that are expected, told to people in one sentence."""


class SirlError(Exception):
    """An expected failure; its message is one sentence that names the cause and the mend."""
