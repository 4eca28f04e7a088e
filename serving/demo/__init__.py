"""`sirl demo`: serve, watch, learn, swap, on one machine, with nothing made up."""

from serving.demo.story import run_demo

__all__ = ["run_demo"]
