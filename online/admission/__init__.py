"""Admission: which of the stored prompts an update may learn from."""
