"""Repeating: teach a version once more from what its manifest and its ledger name, and compare the weights bit for bit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

from guard.calibration import Calibration
from online.buffer import Buffer
from online.ledger import Ledger, LedgerError
from online.lessons import Lessons
from online.policy import Policy
from online.registry import Registry
from online.rollouts import digest
from online.selector import select
from online.settings import UpdateSettings
from online.state import StateDir
from online.trainer import ADAPTER, Trainer

WEIGHTS = "adapter_model.safetensors"


def repeat(
    state: StateDir, registry: Registry, buffer: Buffer, base_dir: Path, version: int, bar: type[tqdm] = tqdm
) -> tuple[str, str]:
    """SHA-256 of the weights as they are in the registry, and as they come out now.

    Raises LedgerError where it cannot be told: prompts that are gone, another calibration, draws that an engine made.
    """
    registry.verify(version)
    manifest, folder = registry.manifest(version), registry.path(version)
    ledger, learn = Ledger.load(folder), UpdateSettings(**manifest["settings"])
    if learn.rollouts != "transformers":
        raise LedgerError(f"v{version} learned from an engine's draws, which are not the same to the bit twice.")
    lessons = Lessons.named(buffer, ledger, state.client_salt())
    base = Calibration.load(state.find_calibration("base", base_dir))
    if lessons.digest(base, learn, registry.base) != manifest["data_fingerprint"]:
        raise LedgerError(f"The base was calibrated anew since v{version} was taught: its bands are others now.")
    torch.set_num_threads(learn.threads)
    policy = Policy.load(base_dir, dtype=getattr(torch, learn.dtype))
    selection = select(policy, lessons.prompts, base.openings, base.tree_mass)
    trainer = Trainer(policy, selection, base.openings, learn)
    for _ in bar(range(learn.steps), desc=f"repeating v{version}", unit="step"):
        trainer.advance()
    with tempfile.TemporaryDirectory() as out:
        policy.save_adapter(ADAPTER, Path(out))
        return manifest["files"][WEIGHTS]["sha256"], digest(Path(out))
