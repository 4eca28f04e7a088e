"""Contact with vLLM: every use of its internals is in this folder, each with its reason."""
