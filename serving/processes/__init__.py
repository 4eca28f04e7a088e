"""Processes of ours: the server, the learner, and how they are started."""
