"""A model runner's raw logits and batches, and what the probe should make of them."""

from __future__ import annotations

import torch

from guard.openings import ROOT, Openings
from guard.reasoning import Reasoning
from online.model.entropy import entropy_and_mass
from serving.engine.trees import Trees

PLAIN = Openings(((7,), (1, 2, 3), (1, 5)), {(1,): 0.5, (1, 2): 0.75}, spellings={1: (9, 14), 7: (8,)})
REASONS = Openings(((7,), (1, 2)), {(1,): 0.5}, Reasoning(10, 11, frozenset({12, 13})))
CPU = torch.device("cpu")
VOCABULARY = 16


def known(**adapters: Openings) -> Trees:
    trees = Trees(CPU)
    for name, openings in adapters.items():
        trees.set(int(name[1:]), openings)
    return trees


def expected(logits: torch.Tensor, openings: list[Openings], nodes: list[int]) -> list[float]:
    masses = []
    for row, tree, node in zip(logits, openings, nodes, strict=True):
        tokens, weights = zip(*(tree.children(node) if node >= ROOT else tree.anew_children()), strict=True)
        if tree.reasoning and node == ROOT:
            row = row.index_fill(0, torch.tensor(sorted(tree.reasoning.aside)), -torch.inf)
        masses.append(entropy_and_mass(row[None], torch.tensor([tokens]), torch.tensor([weights]))[1].item())
    return masses
