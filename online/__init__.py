"""The online learner: what is kept of the traffic, how it is learned from, and which adapter serves."""
