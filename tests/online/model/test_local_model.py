"""The policy against plain forward passes of one unpadded row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from online.model.local_model import LocalModel, ModelError
from online.model.opening_trees import tree_mass
from tests.online.model.paths import LORA, TREE, distribution, disturbed
from tests.online.tiny_model import END, random_prompts, save_tiny


def test_response_logits_line_up_with_their_tokens(policy: LocalModel) -> None:
    prompts, responses = random_prompts(3), [(7, 8, 9, 2), (10,), (11, 12)]
    with torch.no_grad():
        read, tokens, mask = policy.response_logits(prompts, responses)
        logits = read.whole()
    assert mask.sum(1).tolist() == [4, 1, 2]
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        for at in range(len(response)):
            assert tokens[row, at] == response[at]
            found = logits[row, at].double().softmax(-1)
            np.testing.assert_allclose(found, distribution(policy, (*prompt, *response[:at])), atol=1e-5)


def test_adapters_share_one_base_and_leave_it_alone(policy: LocalModel) -> None:
    prompts = random_prompts(4)
    with torch.no_grad():
        base = tree_mass(policy, prompts, TREE)
        disturbed(policy, "a", 1)
        disturbed(policy, "b", 2)
        with policy.adapter("a"):
            one = tree_mass(policy, prompts, TREE)
            with policy.adapter(None):
                assert torch.equal(tree_mass(policy, prompts, TREE), base)
            assert torch.equal(tree_mass(policy, prompts, TREE), one)
        with policy.adapter("b"):
            assert not torch.allclose(tree_mass(policy, prompts, TREE), one)
        assert torch.equal(tree_mass(policy, prompts, TREE), base)


def test_a_fresh_adapter_changes_nothing(policy: LocalModel) -> None:
    prompts = random_prompts(4)
    with torch.no_grad():
        base = tree_mass(policy, prompts, TREE)
        policy.add_adapter("a", LORA)
        with policy.adapter("a"):
            torch.testing.assert_close(tree_mass(policy, prompts, TREE), base)


def test_a_saved_adapter_comes_back_the_same(policy: LocalModel, tmp_path) -> None:
    prompts = random_prompts(4)
    disturbed(policy, "a")
    with policy.adapter("a"), torch.no_grad():
        expected = tree_mass(policy, prompts, TREE)
    (tmp_path / "adapter").mkdir()
    policy.save_adapter("a", tmp_path / "adapter")
    files = {file.name for file in (tmp_path / "adapter").iterdir()}
    assert files == {"adapter_model.safetensors", "adapter_config.json"}
    other = LocalModel.load(save_tiny(tmp_path / "model"), tmp_path / "adapter")
    with other.adapter("adapter"), torch.no_grad():
        assert torch.equal(tree_mass(other, prompts, TREE), expected)


def test_what_cannot_be_loaded_is_one_sentence(policy: LocalModel, tmp_path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        LocalModel.load(tmp_path)
    with pytest.raises(ModelError, match="does not fit"):
        policy.load_adapter("a", tmp_path)


def test_it_is_where_it_is_put_and_a_gpu_that_is_not_there_is_one_sentence(tmp_path, monkeypatch) -> None:
    folder = save_tiny(tmp_path)
    assert LocalModel.load(folder, device="cpu", memory_gib=0.5).model.device.type == "cpu"
    assert LocalModel.load(folder).model.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="update.device is cuda:1, and torch finds no GPU"):
        LocalModel.load(folder, device="cuda:1")


def test_messages_are_rendered_with_the_template(policy: LocalModel) -> None:
    assert policy.render([{"role": "user", "content": "w7 w8"}]) == (3, 7, 8, 4, 5)
    assert policy.text((7, 8, END)) == "w7 w8"
