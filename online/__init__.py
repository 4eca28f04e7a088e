"""The online learner: it keeps events of the traffic, learns from them, and decides which adapter serves."""
