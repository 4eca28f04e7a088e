"""The online learner: what is kept of the traffic, how it is learned from, and which adapter serves."""


class OnlineError(Exception):
    """An expected failure; its message is one sentence that names the cause and the mend."""
