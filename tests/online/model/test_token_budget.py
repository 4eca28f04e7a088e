"""The token budget: batches stay within it, and what it counts is what autograd and passes really take."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3MoeConfig

from online.calibration.calibrate import masses_along
from online.model import token_budget
from online.model.decoding import generate
from online.model.local_model import LocalModel
from online.model.opening_trees import serving_mass, tree_mass
from online.model.token_budget import Room, TokenBudget, memory_for
from tests.online.model.paths import TREE, disturbed
from tests.online.tiny_model import random_prompts, tiny_llm, tiny_tokenizer

ROOT = Path(__file__).parents[3]
SMALL = TokenBudget(graph=Room(50, 0), passing=Room(70, 0), cached=Room(90, 2))


@pytest.mark.parametrize("seed", range(20))
def test_batches_of_ragged_rows_hold_the_budget(seed: int) -> None:
    luck = random.Random(seed)
    rows = [(luck.randint(1, 300), luck.randint(0, 60)) for _ in range(luck.randint(1, 80))]
    beside, room = luck.choice([0, 7, 40]), Room(luck.randint(1, 2000), 0)
    batches = room.batches(rows, beside)
    assert sorted(i for batch in batches for i in batch) == list(range(len(rows)))
    taken = [
        len(batch) * (sum(max(part) for part in zip(*(rows[i] for i in batch), strict=True)) + beside) for batch in batches
    ]
    assert all(tokens <= room.tokens or len(batch) == 1 for tokens, batch in zip(taken, batches, strict=True))
    lengths = [sum(rows[i]) for batch in batches for i in batch]
    assert lengths == sorted(lengths), "like is padded with like"


def test_no_rows_make_no_batch() -> None:
    assert Room(10, 0).batches([]) == []


@contextmanager
def widest(llm: LocalModel) -> Iterator[dict[str, int]]:
    """Tokens of the largest pass with a gradient and without, its padding counted, and of the largest cache."""
    seen = {"graph": 0, "passing": 0, "cached": 0}

    def note(module: torch.nn.Module, args: tuple, given: dict) -> None:
        ids, mask = given["input_ids"], given.get("attention_mask")
        kind = "graph" if torch.is_grad_enabled() else "passing"
        seen[kind] = max(seen[kind], ids.numel())
        if given["use_cache"]:
            seen["cached"] = max(seen["cached"], mask.numel())

    hook = llm.model.get_decoder().register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


def measured(llm: LocalModel, work: Callable[[], object]) -> dict[str, int]:
    with widest(llm) as seen:
        work()
    return seen


def test_no_pass_holds_more_tokens_than_the_budget() -> None:
    llm, prompts = tiny_llm(), random_prompts(30, longest=40)
    llm.budget = SMALL
    answers = [tuple(prompt[:8]) for prompt in prompts]
    with torch.no_grad():
        tree = measured(llm, lambda: tree_mass(llm, prompts, TREE))
        serving = measured(llm, lambda: serving_mass(llm, prompts, answers, TREE))
        read = measured(llm, lambda: [
            masses_along(llm, [prompts[i] for i in batch], [answers[i] for i in batch], TREE)
            for batch in llm.batches(prompts, answers)
        ])  # fmt: skip
    assert all(50 < one["passing"] <= 70 and not one["graph"] for one in (tree, serving, read))
    drawn = measured(llm, lambda: generate(llm, prompts, 3, max_tokens=9))
    assert 40 < drawn["passing"] <= 70 and 50 < drawn["cached"] <= 90
    disturbed(llm, "a")
    with llm.adapter("a"):
        assert 40 < measured(llm, lambda: tree_mass(llm, prompts, TREE).sum().backward())["graph"] <= 50


def shaped(hidden: int, inner: int) -> LocalModel:
    config = Qwen2Config(
        vocab_size=40, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return LocalModel(Qwen2ForCausalLM(config), tiny_tokenizer())


@pytest.mark.parametrize("shape", [(128, 512), (256, 640)])
@pytest.mark.parametrize("recompute", [False, True])
def test_what_a_gradient_keeps_of_a_token_is_what_is_counted(shape: tuple[int, int], recompute: bool) -> None:
    llm, count = shaped(*shape), 64
    if recompute:
        llm.recompute_layers()
    disturbed(llm, "a")
    weights = {p.untyped_storage().data_ptr() for p in llm.model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    memory = 1 << 24
    llm.allow(memory)
    prompt, held = list(range(3, 3 + 32)) * 2, []
    with llm.adapter("a"), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        held.append(llm.response_logits([prompt[:-2]], [prompt[-2:]])[0].states)
    counted = memory / llm.budget.graph.tokens
    block = 0 if not recompute else counted - 4 * (3 + 1) * shape[0]  # of the one layer that is computed again at a time
    assert 0.6 * (counted - block) < sum(kept.values()) / count < 1.1 * (counted - block)


def test_recomputed_layers_leave_room_for_more_and_a_cache_goes_by_its_precision() -> None:
    llm = shaped(128, 512)
    llm.allow(1 << 24)
    before = llm.budget
    llm.recompute_layers()
    assert llm.budget.graph.tokens > 2 * before.graph.tokens and llm.budget.passing == before.passing
    half = LocalModel(llm.model.to(torch.bfloat16), tiny_tokenizer())
    half.allow(1 << 24)
    assert (before.cached.tokens, half.budget.cached.tokens) == (
        (1 << 24) // (2 * 3 * 64 * 4),
        (1 << 24) // (2 * 3 * 64 * 2),
    )


def test_a_mixture_counts_the_experts_that_a_token_takes() -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 9999}
    few, many = (
        TokenBudget.of(
            Qwen3MoeConfig(num_experts_per_tok=n, moe_intermediate_size=32, **sizes),
            1 << 24, cached=4, recompute=False, most=1 << 20,
        )
        for n in (2, 8)
    )  # fmt: skip
    assert few.graph.tokens > many.graph.tokens > 1
    assert few.graph.tokens < few.passing.tokens


def test_memory_is_as_given_or_a_share_of_what_the_machine_or_its_container_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, limit = torch.device("cpu"), tmp_path / "memory.max"
    assert memory_for(cpu, 1.5) == 3 << 29
    monkeypatch.setattr(token_budget, "_LIMITS", (str(tmp_path / "none"), str(limit)))
    whole = memory_for(cpu)
    assert whole.bit_count() == 1 and whole >= 1 << 28
    for text, found in (("max\n", whole), (f"{7 << 29}\n", 1 << 28), (f"{1 << 20}\n", 1 << 28)):
        limit.write_text(text)
        assert memory_for(cpu) == found


def test_on_a_gpu_it_is_half_of_what_is_free_and_not_spoken_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70 << 30, 80 << 30))
    gpu = torch.device("cuda")
    assert memory_for(gpu) == 32 << 30 and memory_for(gpu, spoken_for=40 << 30) == 8 << 30
    assert memory_for(gpu, spoken_for=90 << 30) == 1 << 28 and memory_for(gpu, 3) == 3 << 30


FREED = """
import torch
from online.model.token_budget import return_freed
resident = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20
return_freed()
torch.zeros(1 << 22).add_(1)  # glibc would from here on take as much from its heap
before, held, kept = resident(), [], []
for _ in range(16):
    held.append(torch.ones(1 << 21))
    kept.append(torch.ones(1 << 10))
full = resident()
held.clear()
print(full - before, resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from Linux's /proc")
def test_freed_tensors_leave_the_process_though_small_ones_stay_between_them() -> None:
    full, left = map(int, subprocess.check_output([sys.executable, "-c", FREED], text=True, cwd=ROOT).split())
    assert full > 120 and left < 20
