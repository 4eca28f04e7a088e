"""Under which conditions a model runs, by its tokenizer, its configuration and the operator's own template."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import models
from evaluation.suite import from_row
from guard.calibration import Bands, Calibration, Conditions
from online.calibration.calibrate import digest
from online.model.conditions import TemplateError, quantization_of, read_template, template_of
from online.model.local_model import LocalModel
from online.settings.groups import UpdateSettings
from online.training.selector import Selection
from online.training.training_set import TrainingSet
from tests.online.tiny_model import save_tiny, tiny_llm

SAID = [{"role": "user", "content": "w5 w6"}]


@pytest.mark.parametrize("name", ["sirl-tiny", "sirl-tiny-thinking"])
def test_what_came_with_our_models_was_made_for_how_they_run_here(name: str) -> None:
    calibration = Calibration.load(models.bundled(name) / "calibration.json")
    assert calibration.conditions == LocalModel.load(models.bundled(name)).conditions
    assert calibration.conditions.dtype == "float32" and calibration.conditions.quantization is None


def test_a_template_is_read_as_vllm_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "template.jinja"
    file.write_text("{{ messages[0].content }}")
    assert read_template(str(file)) == read_template("{{ messages[0].content }}") == "{{ messages[0].content }}"
    assert read_template(None) is None
    with pytest.raises(
        TemplateError, match=r"none\.jinja cannot be read \(No such file or directory\): give a Jinja file\."
    ):
        read_template(str(tmp_path / "none.jinja"))


def test_an_operator_s_template_writes_the_prompts_and_is_on_record(tmp_path: Path) -> None:
    folder, template = save_tiny(tmp_path), "w9 {{ messages[0].content }} w8\n"
    own, other = LocalModel.load(folder), LocalModel.load(folder, template=template)
    assert other.render(SAID) == (9, 5, 6, 8) != own.render(SAID)
    assert other.conditions == Conditions.of(template, "float32", None)
    assert own.conditions == Conditions.of(template_of(own.tokenizer), "float32", None) != other.conditions
    assert LocalModel.load(folder, dtype=torch.bfloat16).conditions.dtype == "bfloat16"


def test_without_a_template_and_with_one_that_fails_the_reason_is_a_sentence() -> None:
    llm = tiny_llm()
    llm.tokenizer.chat_template = None
    assert llm.conditions.template is None
    with pytest.raises(TemplateError, match="has no chat template: give one with --chat-template FILE"):
        llm.render(SAID)
    for template, reason in (
        ("{{ raise_exception('a system prompt is needed') }}", "a system prompt"),
        ("{% if %}", "Expect"),
    ):
        llm.tokenizer.chat_template = template
        with pytest.raises(TemplateError, match=reason):
            llm.render(SAID)


def test_what_a_template_is_given_writes_the_prompts_and_is_on_record(tmp_path: Path) -> None:
    """As JSON in the order of its keys: an older calibration, which knows of none, fits what is given none."""
    folder, template = save_tiny(tmp_path), "{% if brief %}w9 {% endif %}{{ messages[0].content }} w8"
    plain = LocalModel.load(folder, template=template)
    brief = LocalModel.load(folder, template=template, arguments={"brief": True, "a": 1})
    assert plain.render(SAID) == (5, 6, 8) and brief.render(SAID) == (9, 5, 6, 8)
    assert brief.conditions.arguments == '{"a": 1, "brief": true}' and plain.conditions.arguments is None
    said = 'the chat template\'s arguments none, and {"a": 1, "brief": true} are served'
    assert plain.conditions.unlike(brief.conditions) == said
    assert replace(plain.conditions, template=None).unlike(brief.conditions) is None


def test_a_template_that_tells_the_date_is_the_same_tomorrow(tmp_path: Path) -> None:
    """Its text is its identity; so is that of a suite what it asks, before any template writes it."""
    folder, template = save_tiny(tmp_path), "w3{{ strftime_now('%d') | int % 9 }} {{ messages[0].content }} w5"
    llm = LocalModel.load(folder, template=template)
    today, conditions = llm.render(SAID), llm.conditions
    assert 30 <= today[0] <= 38 and today[1:] == (5, 6, 5)
    llm.tokenizer.chat_template = template.replace("strftime_now('%d') | int % 9", "9")
    assert llm.render(SAID) != today and llm.conditions != conditions
    llm.tokenizer.chat_template = template
    assert llm.conditions == conditions
    prompts = [from_row({"kind": "benign", "prompt": "w5 w6"})]
    assert digest(prompts) == digest([replace(prompts[0], id="another", split="x")])
    assert digest(prompts) != digest([replace(prompts[0], family="wrapped")])


@pytest.mark.parametrize(
    ("declared", "method"),
    [
        (None, None),
        ({"quant_method": "awq", "bits": 4}, "awq"),
        (SimpleNamespace(quant_method=SimpleNamespace(value="bitsandbytes")), "bitsandbytes"),
    ],
)
def test_the_quantisation_is_what_the_configuration_declares(declared: object, method: str | None) -> None:
    assert quantization_of(declared) == method


def test_what_was_taught_before_they_were_on_record_can_be_taught_again() -> None:
    """They decide nothing of an adapter, so its digest is the one it had without them."""
    base = Calibration.load(models.bundled() / "calibration.json")
    chosen, learn = Selection.sorted_by(Bands(0.3, 0.6), [(1, 2), (3,)], [0.9, 0.1]), UpdateSettings()

    def decisive(calibration: Calibration) -> str:
        return TrainingSet.digest(chosen, calibration, learn, "m")

    assert decisive(base) == decisive(replace(base, conditions=None)) == decisive(replace(base, judge="x", suite="y"))
    assert decisive(base) != decisive(replace(base, entropy_cut=9.0))
