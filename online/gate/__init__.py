"""The gate: whether a candidate may serve, by two-sided held-out tests."""
