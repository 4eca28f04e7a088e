"""The stored form of a model: bfloat16 weights in safetensors, served in float32."""

import json
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast, Qwen3ForCausalLM

GENERATION = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0}


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights, tokenizer and configuration. The configuration asks for float32, since the rounding of bfloat16
    arithmetic is larger than what the entropies are to be measured with."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings.pop("transformers_version", None)
    settings |= {"dtype": "float32", "torch_dtype": "float32"}
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    (folder / "generation_config.json").write_text(json.dumps(GENERATION | ids, indent=2) + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerBase]:
    """Model in float32 and tokenizer, from the files alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model.eval(), tokenizer
