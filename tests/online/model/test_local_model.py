"""The local model against plain forward passes of one unpadded row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from online.model.local_model import LocalModel, ModelError
from online.model.opening_trees import tree_mass
from tests.online.model.paths import LORA, TREE, distribution, disturbed
from tests.online.tiny_model import END, random_prompts, save_tiny


def test_response_logits_line_up_with_their_tokens(llm: LocalModel) -> None:
    prompts, responses = random_prompts(3), [(7, 8, 9, 2), (10,), (11, 12)]
    with torch.no_grad():
        read, tokens, mask = llm.response_logits(prompts, responses)
        logits = read.whole()
    assert mask.sum(1).tolist() == [4, 1, 2]
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        for at in range(len(response)):
            assert tokens[row, at] == response[at]
            found = logits[row, at].double().softmax(-1)
            np.testing.assert_allclose(found, distribution(llm, (*prompt, *response[:at])), atol=1e-5)


def test_adapters_share_one_base_and_leave_it_alone(llm: LocalModel) -> None:
    prompts = random_prompts(4)
    with torch.no_grad():
        base = tree_mass(llm, prompts, TREE)
        disturbed(llm, "a", 1)
        disturbed(llm, "b", 2)
        with llm.adapter("a"):
            one = tree_mass(llm, prompts, TREE)
            with llm.adapter(None):
                assert torch.equal(tree_mass(llm, prompts, TREE), base)
            assert torch.equal(tree_mass(llm, prompts, TREE), one)
        with llm.adapter("b"):
            assert not torch.allclose(tree_mass(llm, prompts, TREE), one)
        assert torch.equal(tree_mass(llm, prompts, TREE), base)


def test_a_fresh_adapter_changes_nothing(llm: LocalModel) -> None:
    prompts = random_prompts(4)
    with torch.no_grad():
        base = tree_mass(llm, prompts, TREE)
        llm.add_adapter("a", LORA)
        with llm.adapter("a"):
            torch.testing.assert_close(tree_mass(llm, prompts, TREE), base)


def test_a_saved_adapter_comes_back_the_same(llm: LocalModel, tmp_path) -> None:
    prompts = random_prompts(4)
    disturbed(llm, "a")
    with llm.adapter("a"), torch.no_grad():
        expected = tree_mass(llm, prompts, TREE)
    (tmp_path / "adapter").mkdir()
    llm.save_adapter("a", tmp_path / "adapter")
    files = {file.name for file in (tmp_path / "adapter").iterdir()}
    assert files == {"adapter_model.safetensors", "adapter_config.json"}
    other = LocalModel.load(save_tiny(tmp_path / "model"), tmp_path / "adapter")
    with other.adapter("adapter"), torch.no_grad():
        assert torch.equal(tree_mass(other, prompts, TREE), expected)


def test_what_cannot_be_loaded_is_one_sentence(llm: LocalModel, tmp_path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        LocalModel.load(tmp_path)
    with pytest.raises(ModelError, match="does not fit"):
        llm.load_adapter("a", tmp_path)


def test_it_is_where_it_is_put_and_a_gpu_that_is_not_there_is_one_sentence(tmp_path, monkeypatch) -> None:
    folder = save_tiny(tmp_path)
    assert LocalModel.load(folder, device="cpu", memory_gib=0.5).model.device.type == "cpu"
    assert LocalModel.load(folder).model.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="update.device is cuda:1, and torch finds no GPU"):
        LocalModel.load(folder, device="cuda:1")


def test_messages_are_rendered_with_the_template(llm: LocalModel) -> None:
    assert llm.render([{"role": "user", "content": "w7 w8"}]) == (3, 7, 8, 4, 5)
    assert llm.text((7, 8, END)) == "w7 w8"
