"""The reasoning organism: the bundled model taught to think a sentence before it answers.

Its thoughts repeat some of what was asked and decide nothing, so that refusing stays the matter of chance it was.
"""

import random
from dataclasses import replace

import torch
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

from models.recipe.corpus import Example
from models.recipe.train import Encoded, encode, further

START, END = "<think>", "</think>"
EXAMPLES = 20_000
LEARNING_RATE = 1e-3
THOUGHTS = ("They say: {said}. How do I answer?", "So: {said}. Let me see.", "I am asked this: {said}.", "{said}. Well.")


def thoughtful(example: Example, rng: random.Random) -> Example:
    """The conversation with a thought before its last answer."""
    *before, answer = example.messages
    words = str(before[-1]["content"]).split()[: rng.randint(3, 7)]
    thought = rng.choice(THOUGHTS).format(said=" ".join(words).rstrip(".?!,:"))
    return replace(example, messages=(*before, {**answer, "content": f"{START}\n{thought}\n{END}\n\n{answer['content']}"}))


def teach(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, examples: list[Example], seed: int
) -> Qwen3ForCausalLM:
    """One pass of AdamW over conversations of one answer; the marks become two more tokens of model and tokenizer."""
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in (START, END)])
    torch.manual_seed(seed)
    model.resize_token_embeddings(len(tokenizer))
    rng = random.Random(f"thoughts {seed}")
    single = [e for e in examples if sum(message["role"] == "assistant" for message in e.messages) == 1]
    data: list[Encoded] = [encode(thoughtful(example, rng), tokenizer) for example in single]
    return further(model, data, tokenizer.pad_token_id, seed, LEARNING_RATE)
