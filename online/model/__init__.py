"""The local model: a base with LoRA adapters in memory, and what is asked of it."""
