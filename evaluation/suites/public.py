"""Public sets by name: where each is, under which licence, and what a row of it is as a prompt.

Where a set's authors keep it as a file it is read from there, for the hub's copies of several are gated; the others are on
the Hugging Face hub.
"""

from collections.abc import Callable
from dataclasses import dataclass

from evaluation.suite import Prompt
from evaluation.suites import rows
from evaluation.suites.rows import Row


@dataclass(frozen=True, slots=True)
class PublicSet:
    """One set: on the hub by its id, in all its `configs`, or at an address of CSV or JSON. `url` is its paper or page."""

    row: Callable[[Row, str], Prompt | None]
    url: str
    licence: str
    hub: str = ""
    split: str = "test"
    configs: tuple[str | None, ...] = (None,)
    address: str | None = None


_RAW = "https://raw.githubusercontent.com"
_ARXIV = "https://arxiv.org/abs"
_JBB, _OR = "JailbreakBench/JBB-Behaviors", "bench-llm/or-bench"
_MATHS = ("algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra")
SETS: dict[str, PublicSet] = {
    "advbench": PublicSet(
        rows.harmful,
        f"{_ARXIV}/2307.15043",
        "MIT",
        address=f"{_RAW}/llm-attacks/llm-attacks/main/data/advbench/harmful_behaviors.csv",
    ),
    "harmbench": PublicSet(
        rows.harmbench,
        f"{_ARXIV}/2402.04249",
        "MIT",
        address=f"{_RAW}/centerforaisafety/HarmBench/main/data/behavior_datasets/harmbench_behaviors_text_all.csv",
    ),
    "jailbreakbench": PublicSet(
        rows.harmful, f"{_ARXIV}/2404.01318", "MIT", hub=_JBB, split="harmful", configs=("behaviors",)
    ),
    "jailbreakbench-benign": PublicSet(
        rows.borderline, f"{_ARXIV}/2404.01318", "MIT", hub=_JBB, split="benign", configs=("behaviors",)
    ),
    "strongreject": PublicSet(
        rows.harmful,
        f"{_ARXIV}/2402.10260",
        "MIT",
        address=f"{_RAW}/alexandrasouly/strongreject/main/strongreject_dataset/strongreject_dataset.csv",
    ),
    "xstest": PublicSet(
        rows.xstest,
        f"{_ARXIV}/2308.01263",
        "CC BY 4.0",
        address=f"{_RAW}/paul-rottger/xstest/main/xstest_prompts.csv",
    ),
    "or-bench-hard": PublicSet(
        rows.borderline, f"{_ARXIV}/2405.20947", "CC BY 4.0", hub=_OR, split="train", configs=("or-bench-hard-1k",)
    ),
    "or-bench-toxic": PublicSet(
        rows.harmful, f"{_ARXIV}/2405.20947", "CC BY 4.0", hub=_OR, split="train", configs=("or-bench-toxic",)
    ),
    "pku-saferlhf": PublicSet(rows.saferlhf, f"{_ARXIV}/2406.15513", "CC BY-NC 4.0", hub="PKU-Alignment/PKU-SafeRLHF"),
    "gsm8k": PublicSet(rows.gsm8k, f"{_ARXIV}/2110.14168", "MIT", hub="openai/gsm8k", configs=("main",)),
    "math": PublicSet(
        rows.math, f"{_ARXIV}/2103.03874", "MIT", hub="EleutherAI/hendrycks_math", configs=(*_MATHS, "precalculus")
    ),
    "math-500": PublicSet(rows.math, f"{_ARXIV}/2305.20050", "MIT", hub="HuggingFaceH4/MATH-500"),
    "humaneval": PublicSet(rows.humaneval, f"{_ARXIV}/2107.03374", "MIT", hub="openai/openai_humaneval"),
    "mt-bench": PublicSet(
        rows.mtbench, f"{_ARXIV}/2306.05685", "Apache-2.0", hub="HuggingFaceH4/mt_bench_prompts", split="train"
    ),
    "alpacaeval": PublicSet(
        rows.alpaca,
        "https://github.com/tatsu-lab/alpaca_eval",
        "CC BY-NC 4.0",
        address="https://huggingface.co/datasets/tatsu-lab/alpaca_eval/resolve/main/alpaca_eval.json",
    ),
    "ifeval": PublicSet(rows.ifeval, f"{_ARXIV}/2311.07911", "Apache-2.0", hub="google/IFEval", split="train"),
}
"""By the name that `load` takes."""
