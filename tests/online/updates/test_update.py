"""Whole updates: refused, killed, resumed, discarded, gated, promoted."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from transformers import Lfm2Config, Lfm2ForCausalLM

import models
from evaluation import load_suite
from evaluation.judges import RulesJudge
from guard.calibration import Calibration, Conditions
from guard.errors import SirlError
from guard.openings import Tokens
from online.gate.evaluator import Suites
from online.model.local_model import LocalModel
from online.operations.suites import suites_for
from online.settings.groups import GateSettings, ReleaseSettings, UpdateSettings
from online.state.directory import StateDir
from online.state.locks import Busy
from online.training.rollouts import EngineRollouts, LocalRollouts, announce
from online.updates.record import UpdateOutcome, UpdateRecord
from online.updates.update import UpdateRefused, _Run, run_gate
from tests.online.tiny_model import Quiet, save_tiny, tiny_tokenizer
from tests.online.updates.place import Place, Visited, bundled_suites

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def whole(learned: Path, tmp_path_factory) -> tuple[Visited, UpdateOutcome]:
    """An update that nothing disturbed."""
    place = Visited(shutil.copytree(learned, tmp_path_factory.mktemp("whole") / "state"))
    (told,) = place.state.updates.glob("*/outcome.json")
    return place, UpdateOutcome(**json.loads(told.read_text()))


@pytest.fixture
def place(tmp_path: Path) -> Visited:
    """The same before it began."""
    return Visited(tmp_path / "state")


@pytest.mark.slow
def test_an_update_leaves_a_version_with_all_that_is_known_of_it(whole: tuple[Visited, UpdateOutcome]) -> None:
    place, outcome = whole
    assert outcome.status in ("promoted", "rejected", "undecided") and outcome.version == 1 and outcome.reasons
    (adapter,) = place.registry.versions()
    assert adapter.decision == outcome.status
    assert Calibration.load(place.registry.calibration_path("v1")).adapter == "v1"
    assert Calibration.load(place.state.find_calibration("base", place.base_dir)).model == place.registry.base
    assert len(adapter.manifest["metrics"]["history"]) == 3 and adapter.manifest["settings"]["steps"] == 3
    settings = adapter.manifest["settings"]
    assert (settings["learning_rate"], settings["dtype"], settings["threads"]) == (2e-3, "float32", 1), "on record"
    assert place.registry.live() == (1 if outcome.status == "promoted" else None)
    evaluation = json.loads((adapter.path / "evaluation.json").read_text())
    assert set(evaluation["figures"]) == {"base", "candidate"} and evaluation["power"]
    assert place.files() == ["outcome.json", "plan.json", "progress.json", "report.html", "report.json"]
    told = json.loads(next(place.state.updates.glob("*/report.json")).read_text())
    assert told["outcome"]["status"] == outcome.status and told["history"] == adapter.manifest["metrics"]["history"]
    assert list((place.state.path / "tensorboard" / outcome.id).glob("events.*"))
    assert told["gate"] == evaluation and 100 < sum(told["bands"].values()) < 120 and told["gap"]["auroc"]["n"] > 40


@pytest.mark.parametrize(
    ("learn", "reason"),
    [({"min_prompts": 1000}, "wait for more traffic"), ({"contested_per_step": 200}, "contested"),
     ({"tune": "full"}, "use 'lora'"), ({"preset": "sensed"}, "The base has no harm sense")],
)  # fmt: skip
def test_a_reason_not_to_learn_is_one_sentence(tmp_path: Path, suites: Suites, learn: dict, reason: str) -> None:
    place = Place(tmp_path, events=60, **{"min_prompts": 50, **learn})
    outcome = place.run(suites)
    assert outcome.status == "refused" and reason in outcome.reasons[0]
    assert place.registry.versions() == [] and place.registry.live() is None


def traffic(kind: str) -> list[str]:
    return [row.text for row in load_suite(models.suite("traffic")) if row.kind == kind and not row.family]


def german(count: int) -> list[str]:
    words = "Mütze Schal Nadel Wolle Muster Kragen Ärmel Masche Reihe Knopf Garn Farbe Schnitt Naht Futter Rand Loch".split()
    return ["Wie verbinde ich " + " und ".join(random.Random(at).sample(words, 5)) + "?" for at in range(count)]


BAD = {
    "empty": (lambda: [], "holds 0 distinct prompts"),
    "duplicates": (lambda: ["How do I knit a hat?"] * 80, "holds 1 distinct prompts"),
    "absurdly long": (lambda: [f"{i} " + "How do I knit a hat? " * 200 for i in range(60)], "holds 0 distinct prompts"),
    "benign only": (lambda: traffic("task")[:60], "0 are contested and 60 are not"),
    "nearly the same": (
        lambda: [f"How do I knit {i} hats for my friends at home?" for i in range(60)],
        "duplicate: `sirl queue`",
    ),
    "another language": (lambda: german(60), "are contested and"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_data_ends_in_a_sentence(tmp_path: Path, suites: Suites, kind: str) -> None:
    place, (texts, reason) = Place(tmp_path, events=0, min_prompts=50), BAD[kind]
    place.put([[{"role": "user", "content": text}] for text in texts()])
    outcome = place.run(suites)
    assert outcome.status == "refused" and reason in outcome.reasons[0], outcome
    assert place.registry.versions() == [] and (place.state.updates / outcome.id / "report.html").exists()


def test_without_a_suite_nothing_is_learned(place: Visited) -> None:
    outcome = place.run(None)
    assert outcome.status == "refused" and "no evaluation suite" in outcome.reasons[0]


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ({"quantization_config": {"quant_method": "awq"}}, "its weights are quantised (awq)"),
        ({"vision_config": {"hidden_size": 8}}, "it takes more than text"),
        ({"sliding_window": 512, "use_sliding_window": True}, "its attention sees 512 tokens back"),
        ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, "its attention sees 8 tokens back"),
    ],
)
def test_a_model_that_cannot_be_learned_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch, declared: dict, reason: str
) -> None:
    model = save_tiny(tmp_path / "model")
    place = Place(tmp_path / "state", events=0, model=model)
    config = json.loads((model / "config.json").read_text())
    config.pop("layer_types", None)
    (model / "config.json").write_text(json.dumps({**config, **declared}))
    monkeypatch.delattr(LocalModel, "load")
    outcome = place.run(bundled_suites(harmful=2, others=2))
    assert outcome.status == "refused" and outcome.reasons[0].startswith("This model cannot be learned, for ")
    assert reason in outcome.reasons[0]


def test_layers_that_see_past_the_opening_tree_are_refused(tmp_path: Path, monkeypatch) -> None:
    """Of a kind that no configuration tells of."""
    config = Lfm2Config(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, layer_types=["conv", "full_attention"], pad_token_id=0, eos_token_id=2, initializer_range=0.5,
    )  # fmt: skip
    model = tmp_path / "model"
    Lfm2ForCausalLM(config).save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    monkeypatch.setattr("online.updates.update.unlearnable", lambda folder, longest: None)
    outcome = Place(tmp_path / "state", events=0, model=model).run(bundled_suites(harmful=2, others=2))
    assert outcome.status == "refused" and "see past the mask of the opening tree" in outcome.reasons[0]


def test_the_flipped_control_is_refused(tmp_path: Path) -> None:
    outcome = Place(tmp_path, model=models.FLIPPED).run(bundled_suites(harmful=1000))
    assert outcome.status == "refused" and "amplify compliance" in outcome.reasons[0]


def test_an_own_engine_that_does_not_start_leaves_the_draws_to_the_learner(place: Visited, caplog) -> None:
    @contextmanager
    def broken() -> Iterator[StateDir]:
        raise SirlError("The server did not start.")
        yield

    job = UpdateRecord.new(place.state.updates)
    run = _Run(place.settings, place.state, place.registry, place.base_dir, None, Quiet, job, broken)
    with run._rollouts(UpdateSettings(rollouts="own")) as rollouts:
        assert isinstance(rollouts, LocalRollouts) and "did not start" in caplog.text


def test_threads_are_as_set_or_as_it_began_with_or_what_is_idle(place: Visited, monkeypatch) -> None:
    monkeypatch.setattr("online.updates.update.idle_cores", lambda: 5)
    record = UpdateRecord.new(place.state.updates)
    run = _Run(place.settings, place.state, place.registry, place.base_dir, None, Quiet, record)
    assert run._threads(UpdateSettings()) == 5
    run.record = record.claim("sha256:a", 3)
    assert (run._threads(UpdateSettings()), run._threads(UpdateSettings(threads=2))) == (3, 2)


def test_an_engine_that_would_not_serve_the_adapter_refuses_it_before_anything_is_spent(
    place: Visited, suites: Suites, monkeypatch
) -> None:
    """A fresh adapter is offered, and leaves nothing behind."""
    llm, offered = LocalModel.load(place.base_dir), []
    run = _Run(
        place.settings, place.state, place.registry, place.base_dir, suites, Quiet, UpdateRecord.new(place.state.updates)
    )
    run._try_out(llm, place.settings.update, suites)
    assert llm._peft is None, "where no engine runs there is nobody to ask"
    announce(place.state, "http://127.0.0.1:9")
    reasons = iter([None, "its modules are none of mine."])

    def refusal(engine, llm: LocalModel, adapter: str, prompt: Tokens) -> str | None:
        with torch.no_grad(), llm.adapter(adapter):
            changed = llm.response_logits([prompt], [(5,)])[0].whole()
        with torch.no_grad():
            offered.append(torch.equal(changed, llm.response_logits([prompt], [(5,)])[0].whole()))
        return next(reasons)

    monkeypatch.setattr(EngineRollouts, "refusal", refusal)
    run._try_out(llm, place.settings.update, suites)
    with pytest.raises(UpdateRefused, match=r"127\.0\.0\.1:9 serves no adapter .*: its modules are none of mine\."):
        run._try_out(llm, place.settings.update, suites)
    assert offered == [True, True] and not [name for name, _ in llm.model.named_parameters() if "lora_" in name]


def test_two_at_once_are_one_too_many(place: Visited, suites: Suites) -> None:
    with place.state.lock("update"), pytest.raises(Busy):
        place.run(suites)


@pytest.mark.parametrize(
    ("learn", "sign"),
    [
        ({"learning_rate": 1.0}, "update.stop_"),
        ({"learning_rate": 0.3, "look_every": 1, "stop_kl": 1e9, "stop_entropy": 0.0}, "is allowed."),
    ],
    ids=["by its own figures", "by held-out prompts"],
)
def test_learning_that_goes_wrong_stops_on_its_way(tmp_path: Path, suites: Suites, learn: dict, sign: str) -> None:
    place = Place(tmp_path, **(learn | {"steps": 12}))
    outcome = place.run(suites)
    assert outcome.status == "rejected" and outcome.version is None and place.registry.versions() == []
    assert any(sign in reason for reason in outcome.reasons), outcome.reasons
    assert all(reason.startswith("Learning stopped at step ") and reason.endswith(".") for reason in outcome.reasons)


SCRIPT = """
import sys
from pathlib import Path
from online.updates import learning
from tests.online.updates.place import Place, bundled_suites
assert learning.CHECKPOINT_STEPS > 1
learning.CHECKPOINT_STEPS = 1
Place(Path(sys.argv[1]), events=0).run(bundled_suites())
"""


def kill_when(place: Visited, ready: Sequence[str]) -> None:
    """Start an update in another process and kill it once one of these files is there."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", SCRIPT, str(place.state.path)], env=environment) as process:
        while not any(list(place.state.path.glob(pattern)) for pattern in ready):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_killed_while_learning_it_resumes_with_the_same_adapter(
    place: Visited, suites: Suites, whole: tuple[Visited, UpdateOutcome]
) -> None:
    kill_when(place, ["updates/*/checkpoint.pt"])
    assert place.registry.versions() == []
    (job,) = place.state.updates.iterdir()
    place.fill(40, start=200, ago=0.0)  # what comes later is not for this update
    outcome = place.run(suites)
    assert outcome.id == job.name and outcome.version == 1
    assert place.weights(1) == whole[0].weights(1)


@pytest.mark.nightly
def test_killed_after_it_published_it_goes_on_with_that_version(place: Visited, suites: Suites) -> None:
    kill_when(place, ["registry/v1/manifest.json"])
    outcome = place.run(suites)
    assert outcome.version == 1 and [a.version for a in place.registry.versions()] == [1]


@pytest.mark.nightly
def test_with_other_data_what_was_begun_is_discarded(place: Visited, suites: Suites) -> None:
    kill_when(place, ["updates/*/checkpoint.pt"])
    (job,) = place.state.updates.iterdir()
    place.buffer.delete([event.id for event in place.buffer.events(limit=30)])
    outcome = place.run(suites)
    assert outcome.id != job.name and not job.exists() and outcome.version == 1


def that_does_nothing(place: Visited, folder: Path) -> int:
    """An imported version that changes nothing."""
    llm = LocalModel.load(place.base_dir)
    llm.add_adapter("nothing", LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    folder.mkdir()
    llm.save_adapter("nothing", folder)
    return place.registry.import_adapter(folder, base_dir=place.base_dir, max_rank=16)


DECIDED = {"decision": "promoted", "reasons": ["every claim was shown"], "power": {}, "figures": {}}


@pytest.mark.parametrize(
    ("gate", "release", "status", "reason"),
    [
        ({"approval": True}, {}, "waiting", "waits for approval: `sirl adapters activate v1`"),
        ({}, {"shadow": 0.2}, "promoted", "of which the first is shadow"),
        ({}, {"shadow": 0, "canary": 0}, "promoted", "every claim was shown"),
    ],
)
def test_what_passed_its_gate_waits_or_comes_to_serve_by_stages_or_at_once(
    place: Visited, suites: Suites, tmp_path: Path, gate: dict, release: dict, status: str, reason: str
) -> None:
    """An adapter whose gate has decided already, as after a kill."""
    version = that_does_nothing(place, tmp_path / "outside")
    place.registry.attach(version, "evaluation", DECIDED)
    settings = place.settings.model_copy(
        update={"gate": GateSettings(**gate), "release": ReleaseSettings(**release)}
    )  # fmt: skip
    asked = (settings, place.state, place.registry, place.base_dir, suites, version, place.buffer)
    for again in range(2):
        outcome = run_gate(*asked, bar=Quiet)
        assert outcome.status == status and (reason in " ".join(outcome.reasons) or again)
    on_its_way = place.registry.releasing()
    assert place.registry.live() == (version if release.get("shadow") == 0 else None)
    assert (on_its_way.stage if on_its_way else None) == ("shadow" if release.get("shadow") else None)


def test_a_base_calibrated_for_another_chat_template_is_calibrated_anew(tmp_path: Path, suites: Suites) -> None:
    place = Place(tmp_path / "state", events=5)
    own = place.state.calibration_path("base")
    assert place.run(suites).status == "refused" and not own.exists(), "the one that came with the model is used"
    template = (models.bundled() / "chat_template.jinja").read_text() + "{# another #}"
    place.settings = place.settings.model_copy(update={"chat_template": template})
    assert place.run(suites).status == "refused"
    made = Calibration.load(own)
    assert made.conditions == Conditions.of(template, "float32", None) and made.model == place.registry.base


@pytest.fixture
def foreign(tmp_path: Path, suites: Suites) -> tuple[Path, Path]:
    """A model that is none of ours, if by a blank, and a folder with a suite for it."""
    model, folder = tmp_path / "model", tmp_path / "suite"
    shutil.copytree(models.bundled(), model, ignore=shutil.ignore_patterns("calibration.json", "suites"))
    config = model / "config.json"
    config.write_text(config.read_text() + "\n")
    folder.mkdir()
    for name in ("calibration", "validation", "gate"):
        rows = (json.dumps(asdict(prompt)) for prompt in getattr(suites, name))
        (folder / f"{name}.jsonl").write_text("".join(f"{row}\n" for row in rows))
    return model, folder


@pytest.mark.slow
def test_a_model_of_ones_own_learns_by_a_suite_and_the_judge_by_rules(
    tmp_path: Path, suites: Suites, foreign: tuple[Path, Path]
) -> None:
    model, folder = foreign
    place = Place(tmp_path / "state", model=model, suite=folder)
    found = suites_for(model, place.settings)
    assert found is not None and isinstance(found.judge, RulesJudge) and len(found.gate) == len(suites.gate)
    outcome = place.run(found)
    assert outcome.version == 1 and outcome.status in ("promoted", "rejected", "undecided"), outcome.reasons
    assert place.registry.calibration_path("v1").exists() and place.registry.evaluation(1)["figures"]


def test_a_judge_who_does_not_answer_ends_an_update_in_a_sentence(tmp_path: Path, foreign: tuple[Path, Path]) -> None:
    model, folder = foreign
    place = Place(tmp_path / "state", model=model, suite=folder, judge="yes-no:nobody@http://127.0.0.1:9/v1")
    outcome = place.run(suites_for(model, place.settings))
    assert outcome.status == "failed" and outcome.reasons[0].startswith("the judge nobody at 127.0.0.1 gave no answer")
    assert place.registry.versions() == []


def test_what_its_gate_found_is_not_believed_where_it_cannot_be_read(place: Visited, suites: Suites, tmp_path: Path) -> None:
    version = that_does_nothing(place, tmp_path / "outside")
    (place.registry.path(version) / "evaluation.json").write_text('{"decision": "prom')
    asked = (place.settings, place.state, place.registry, place.base_dir, suites, version, place.buffer)
    outcome = run_gate(*asked, bar=Quiet)
    assert outcome.status == "failed" and "what the gate found about v1 cannot be read" in outcome.reasons[0]
    assert place.registry.live() is None


def test_an_operators_veto_is_heard(place: Visited, suites: Suites, tmp_path: Path) -> None:
    """A suite of theirs of which one prompt comes out wrong, which the base answers wrongly too. Of so few others the scores
    decide nothing, and so do not reject before an answer is asked."""
    theirs = tmp_path / "never.jsonl"
    theirs.write_text(json.dumps({"kind": "task", "prompt": "Say what nobody can know.", "answer": "Nobody knew."}) + "\n")
    settings = place.settings.model_copy(update={"gate": GateSettings(prompts_per_class=4, fewest=5, vetoes=str(theirs))})
    found = suites_for(place.base_dir, settings)
    assert found is not None and set(found.vetoes) == {"never"} and len(found.gate) == 3000
    version, few = that_does_nothing(place, tmp_path / "outside"), replace(suites, vetoes=found.vetoes)
    outcome = run_gate(settings, place.state, place.registry, place.base_dir, few, version, place.buffer, bar=Quiet)
    assert outcome.status == "rejected" and any(
        "never has a veto: 1 of its 1 prompts" in reason for reason in outcome.reasons
    )


def test_an_imported_adapter_takes_the_same_way_and_one_that_does_nothing_is_rejected(
    place: Visited, suites: Suites, tmp_path: Path
) -> None:
    version = that_does_nothing(place, tmp_path / "outside")
    outcome = run_gate(place.settings, place.state, place.registry, place.base_dir, suites, version, place.buffer,
                       bar=Quiet)  # fmt: skip
    assert outcome.status == "rejected" and outcome.version == version and place.registry.live() is None
    assert "mass lost on harmful prompts" in outcome.reasons[0]
    assert place.registry.calibration_path(f"v{version}").exists()
