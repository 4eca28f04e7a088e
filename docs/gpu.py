"""Write what a GPU showed: `python -m docs.gpu` makes docs/evidence/gpu.md of benchmarks/results/gpu.json (`make docs`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
RESULTS, PAGE = DOCS.parent / "benchmarks/results/gpu.json", DOCS / "evidence/gpu.md"
HEAD = """# On a GPU

`scripts/gpu-check` measures the probe's kernel, the learner's parity with the CPU, and its speed and memory.
It takes at most ten minutes and needs no network. `scripts/gpu-check --dry-run` goes the same ways on a CPU.
This page is made of the JSON file that it writes.
"""
NONE = "No run on a GPU is kept yet.\n"
PROBE = """## The probe

Entropy of rows of 151,936 logits. Times are medians of one call in microseconds, launches included, in brackets without
them. A share is of the bandwidth of a copy on the device, had each logit been read once. The error is in nats against fp64.
"""
PARITY = """## The learner, GPU against CPU

The bundled model in fp32, with the same prompts, seeds and steps on both.
"""
LEARNER = """## A step of the learner

Random weights of Qwen2.5's shapes in bf16, LoRA of rank 16, default settings, prompts of random tokens. A step is made of
rollouts of contested prompts, masses with their gradient, and anchors.
"""
UPDATE = """A default update of such prompts is selection, steps, and the gate's two models.
"""
Cells = Mapping[str, Mapping[str, Any]]


def page(results: Mapping[str, Any] | None) -> str:
    """The page of a run; of none where nothing was run."""
    if results is None:
        return f"{HEAD}\n{NONE}"
    cells: Cells = results["cells"]
    return "\n".join(
        [HEAD, told(results), PROBE, *probe(cells), PARITY, *parity(cells), LEARNER, *learner(cells), *rest(cells)]
    )


def told(results: Mapping[str, Any]) -> str:
    """Date, machine and bandwidth."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("torch", "triton", "transformers", "peft"))
    copied = results["cells"].get("bandwidth", {}).get("bytes_per_second")
    pace = f" A copy on the device moves {copied / 1e12:.2f} TB/s." if copied else ""
    return f"{results['date']}, {machine['device']}, {versions}.{pace}\n"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    lines = [tuple(head), *map(tuple, rows)]
    lines.insert(1, ("---",) * len(lines[0]))
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def probe(cells: Cells) -> list[str]:
    """A row for each precision and number of rows."""
    kinds = [name.split(", ")[2:] for name in cells if name.startswith("probe, torch, ")]
    rows = []
    for dtype, count in kinds:
        by = {way: cells.get(f"probe, {way}, {dtype}, {count}", {}) for way in ("torch", "kernel", "with masses")}
        compiled = cells.get(f"probe, compiled, {dtype}", {}).get(count.split()[0], {})
        error = by["kernel"].get("max_error")
        rows.append(
            (dtype, count.split()[0], spent(by["torch"]), spent(compiled), spent(by["kernel"]), spent(by["with masses"]),
             share(by["torch"]), share(by["kernel"]), "-" if error is None else f"{error:.1e}")
        )  # fmt: skip
    head = "precision", "rows", "torch", "compiled", "kernel", "with masses", "torch's share", "kernel's share", "max error"
    return table(head, rows)


def spent(cell: Mapping[str, Any]) -> str:
    """Microseconds of a call, and of a replay."""
    if "seconds" not in cell:
        return "-"
    again = f" ({cell['seconds_replayed'] * 1e6:.1f})" if "seconds_replayed" in cell else ""
    return f"{cell['seconds'] * 1e6:.1f}{again}"


def share(cell: Mapping[str, Any]) -> str:
    return f"{cell['share']:.2f}" if "share" in cell else "-"


def parity(cells: Cells) -> list[str]:
    """What differs, a row each."""
    passes, steps = cells.get("parity, passes", {}), cells.get("parity, steps", {})
    rows = [
        (f"tree mass, {passes.get('prompts')} prompts", figure(passes, "mass_max_difference")),
        (
            f"share of {passes.get('responses')} sampled responses that are the same tokens",
            figure(passes, "responses_equal"),
        ),
        ("token entropy of those, nats", figure(passes, "entropy_max_difference")),
        ("log-probability of those, nats", figure(passes, "logprob_max_difference")),
    ]
    if metrics := steps.get("metrics_max_difference"):
        for name in ("decision", "below", "kl_responses", "kl_decision"):
            rows.append((f"loss `{name}`, {len(metrics)} steps", f"{max(step.get(name, 0.0) for step in metrics):.1e}"))
    rows += [
        ("a number of the adapter", figure(steps, "adapter_max_difference")),
        ("the adapter, by norm", figure(steps, "adapter_relative_difference")),
        ("the adapter, by norm, learned twice on the GPU", figure(steps, "twice_relative_difference")),
    ]
    return table(("largest difference of", "GPU against CPU"), rows)


def figure(cell: Mapping[str, Any], name: str) -> str:
    value = cell.get(name)
    return "-" if value is None else f"{value:.1e}" if 0 < value < 0.1 else f"{value:g}"


def learner(cells: Cells) -> list[str]:
    """A row for each shape and length of prompts, and what each makes of an update, with its arithmetic."""
    found = {
        name.split(", ", 1)[1]: cell for name, cell in cells.items() if name.startswith("learner, ") and "step_s" in cell
    }
    rows, updates = [], []
    for name, cell in found.items():
        parts = (cell[f"{part}_s"] for part in ("step", "contested_rollouts", "masses_and_gradient", "anchors"))
        memory = "-" if cell["step_peak_gb"] is None else f"{cell['step_peak_gb']:.1f}"
        tokens = f"{cell['mass_tokens_per_second']:,.0f}"
        rows.append((name, *(f"{part:.1f}" for part in parts), memory, tokens))
        updates.append((name, *cell["arithmetic"].values(), f"{cell['update_minutes']:.1f}"))
    steps = table(("shape", "step, s", "rollouts", "masses", "anchors", "peak GB", "mass pass, tokens/s"), rows)
    return [*steps, UPDATE, *table(("shape", "selection", "steps", "gate", "minutes"), updates)]


def rest(cells: Cells) -> list[str]:
    """The engine, and the cells that failed."""
    lines = ["## vLLM", "", cells.get("engine, V1 and V2 runners", {}).get("blocked", "It was not looked at."), ""]
    if failed := [(name, cell["failed"].replace("|", "/")) for name, cell in cells.items() if "failed" in cell]:
        lines += ["## What failed", "", *table(("cell", "why"), failed)]
    return lines


def kept() -> Mapping[str, Any] | None:
    """The run that is kept."""
    found: Mapping[str, Any] | None = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else None
    return found


if __name__ == "__main__":
    PAGE.write_text(page(kept()), "utf-8")
