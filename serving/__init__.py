"""Serving: vLLM's own OpenAI server with the guarded engine inside, its administration and its metrics."""
