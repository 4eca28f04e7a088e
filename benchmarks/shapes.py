"""Models of a given shape with random weights: what serving costs does not depend on what they say.

`toy` is the guard's worst case, two thin layers under a vocabulary of 151,936: the softmax is most of the work. `realistic`
has the configuration of Qwen2.5-0.5B. Both get a tokenizer of as many words and a calibration whose tree has the size of a
real one.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

from guard.calibration import Bands, Calibration
from guard.openings import Openings
from guard.rule import Rule
from guard.signals import log_odds
from online.model.fingerprint import fingerprint

VOCABULARY = 151_936
SHAPES = {
    "toy": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    },
    "realistic": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
}


def build(shape: str, folder: Path) -> Path:
    """The model of this shape, with tokenizer and calibration; made once."""
    out = folder / shape
    if (out / "calibration.json").exists():
        return out
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=VOCABULARY, max_position_embeddings=2048, tie_word_embeddings=True, **SHAPES[shape])
    config.bos_token_id, config.eos_token_id = None, 0
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(out)
    words = Tokenizer(models.WordLevel({f"w{token}": token for token in range(VOCABULARY)}, unk_token="w1"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece(prefix="")
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w0", unk_token="w1").save_pretrained(out)
    calibration(fingerprint(out)).save(out / "calibration.json")
    return out


def calibration(model: str) -> Calibration:
    """A tree of 24 openings of up to four tokens, and a rule that is computed and touches nothing."""
    rng = random.Random(0)
    openings = Openings(tuple(tuple(rng.randrange(2, VOCABULARY) for _ in range(1 + at % 4)) for at in range(24)))
    bands, rule = Bands(0.1, 0.5), Rule(threshold=log_odds(1.0) + 1)
    return Calibration(model, "base", openings, bands, bands, 1.0, "2026-11-25T00:00:00+00:00", rule, (2, 3))
