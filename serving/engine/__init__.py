"""The one door to vLLM: every touch of its internals is in this folder, each with the reason it is there."""
