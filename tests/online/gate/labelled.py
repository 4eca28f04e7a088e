"""Labelled prompts, and what a model is said to have made of them."""

from __future__ import annotations

from evaluation import Prompt

PER_CLASS = 300


def prompt(kind: str, index: int, wrapped: bool = False) -> Prompt:
    answer = "w7" if kind == "task" else None
    action = index if kind == "task" else index % 150
    message = {"role": "user", "content": f"w{index % 30 + 5}"}
    return Prompt(f"{kind}-{wrapped}-{index}", kind, (message,), family="f" if wrapped else None,
                  novelty="seen" if wrapped else None, action=f"{kind} {action}", answer=answer)  # fmt: skip


def suite(n: int = PER_CLASS) -> list[Prompt]:
    kinds = [("harmful", True), ("benign", False), ("benign", True), ("borderline", False), ("task", False)]
    return [prompt(kind, i, wrapped) for kind, wrapped in kinds for i in range(n)]
