"""The base is loaded under the conditions it is served under."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.calibration import Conditions
from online.model.served_model import load_as_served, load_to_learn
from online.settings.settings import Settings
from tests.online.tiny_model import TEMPLATE, save_tiny


def test_dtype_template_and_its_arguments_are_the_operator_s(tmp_path: Path) -> None:
    folder, template = save_tiny(tmp_path), "{% if brief %}w9 {% endif %}{{ messages[0].content }} w8"
    given = {"chat_template": template, "chat_template_kwargs": '{"brief": true}', "dtype": "bfloat16"}
    llm = load_as_served(Settings(state_dir=tmp_path, **given), folder)
    assert llm.conditions == Conditions.of(template, "bfloat16", None, {"brief": True})
    assert llm.render([{"role": "user", "content": "w5"}]) == (9, 5, 8)
    assert load_as_served(Settings(state_dir=tmp_path, **given), folder, "float32").conditions.dtype == "float32"


def test_where_nothing_is_given_they_are_the_checkpoint_s(tmp_path: Path) -> None:
    llm = load_as_served(Settings(state_dir=tmp_path), save_tiny(tmp_path))
    assert llm.conditions == Conditions.of(TEMPLATE, str(llm.model.dtype).removeprefix("torch."), None)
    assert llm.arguments == {}


@pytest.mark.parametrize(
    ("served", "given", "learned"),
    [
        ("float16", "auto", "float32"),
        ("half", "auto", "float32"),
        ("bfloat16", "auto", "bfloat16"),
        ("float16", "bfloat16", "bfloat16"),
    ],
)
def test_what_is_served_in_float16_learns_in_float32(tmp_path: Path, served: str, given: str, learned: str) -> None:
    settings = Settings(state_dir=tmp_path, dtype=served, update={"dtype": given})
    assert load_to_learn(settings, save_tiny(tmp_path)).conditions.dtype == learned
