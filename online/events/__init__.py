"""Events: what is kept of the traffic, redacted, written in the background, stored in SQL."""
