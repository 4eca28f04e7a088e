"""vLLM's environment as `sirl` sets it, for a process that imports vLLM before a command is known."""

from serving.engine.version import prepare_environment

prepare_environment(bundled=True)
