"""Repeating: a version is taught again from its manifest and ledger, and the weights are compared bit for bit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

from guard.calibration import Calibration
from online.events.buffer import Buffer
from online.model.local_model import LocalModel
from online.registry.registry import Registry
from online.settings.groups import UpdateSettings
from online.state.cores import cores
from online.state.directory import StateDir
from online.training.ledger import Ledger, LedgerError
from online.training.rollouts import WEIGHTS, digest
from online.training.trainer import ADAPTER, Trainer
from online.training.training_set import TrainingSet


def repeat(
    state: StateDir, registry: Registry, buffer: Buffer, base_dir: Path, version: int, bar: type[tqdm] = tqdm
) -> tuple[str, str]:
    """SHA-256 of the weights as they are in the registry, and as they come out now.

    Raises LedgerError where it cannot be told: prompts that are gone, another calibration, draws that an engine made.
    """
    registry.verify(version)
    manifest, folder = registry.manifest(version), registry.path(version)
    ledger, learn = Ledger.load(folder), UpdateSettings(**manifest["settings"])
    if set(manifest["settings"]) != set(UpdateSettings.model_fields):
        raise LedgerError(f"v{version} was taught by another version of sirl-guard, which drew and summed in another order.")
    if learn.rollouts != "transformers":
        raise LedgerError(f"v{version} learned from an engine's draws, which are not the same to the bit twice.")
    salt, base = state.client_salt(), Calibration.load(state.find_calibration("base", base_dir))
    selection = TrainingSet.named(buffer, ledger, salt).as_it_was_sorted(ledger, salt, base.tree_mass)
    if TrainingSet.digest(selection, base, learn, registry.base) != manifest["data_fingerprint"]:
        raise LedgerError(f"The base was calibrated anew since v{version} was taught: its bands are others now.")
    torch.set_num_threads(learn.threads or cores())  # a manifest says how many
    llm = LocalModel.load(base_dir, dtype=getattr(torch, learn.dtype), device=learn.device, memory_gib=learn.memory_gib)
    trainer = Trainer(llm, selection, base.openings, learn)
    for _ in bar(range(len(manifest["metrics"]["history"])), desc=f"repeating v{version}", unit="step"):
        trainer.advance()
    with tempfile.TemporaryDirectory() as out:
        llm.save_adapter(ADAPTER, Path(out))
        return manifest["files"][WEIGHTS]["sha256"], digest(Path(out))
