"""Updates: one SIRL update from end to end, its record, and what undoes or repeats it."""
