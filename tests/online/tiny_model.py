"""A random Qwen3 of some ten thousand parameters with a word-level tokenizer, for tests of mechanics."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from online.model.local_model import LocalModel


class Quiet(tqdm):
    """A progress bar that shows nothing."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})


VOCABULARY = 40
END = 2
TEMPLATE = "{% for m in messages %}w3 {{ m['content'] }} w4 {% endfor %}{% if add_generation_prompt %}w5{% endif %}"


def tiny_model(seed: int = 0, spread: float = 0.5) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=spread,
        eos_token_id=END,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    words = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w1"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="w2", unk_token="w1", pad_token="w0", chat_template=TEMPLATE
    )


def tiny_llm(seed: int = 0, dtype: torch.dtype = torch.float32) -> LocalModel:
    return LocalModel(tiny_model(seed).to(dtype), tiny_tokenizer())


def save_tiny(folder: Path, seed: int = 0) -> Path:
    tiny_model(seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def random_prompts(count: int, seed: int = 0, longest: int = 12) -> list[tuple[int, ...]]:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (count,), generator=draw).tolist()
    return [tuple(torch.randint(3, VOCABULARY, (n,), generator=draw).tolist()) for n in lengths]
