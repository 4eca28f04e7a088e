"""Published models: found by name, downloaded, and written as a folder that transformers, vLLM and PEFT read."""
