"""Tests mirror the tree: a module's tests are in the file of its name, or in one that is named here and does run it."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.test_architecture import ROOT, tracked

MIRRORED = ("guard", "evaluation", "online", "serving")
EVERY_ATTACK = "tests/evaluation/attacks/test_every_attack.py"
MIGRATIONS = "tests/online/events/test_migrations.py"
FOLDERS = {EVERY_ATTACK: "evaluation/attacks", MIGRATIONS: "online/events/migrations"}
"""Tests that run every module of a folder, which they find by walking it."""
ATTACKS = """ascii_art attack authority base64 best_of_n cipher code_wrapping crescendo developer_mode direct distractors
flip fuzzing future_tense guard_search harm_search leetspeak look_alikes many_shot morse nested_fiction output_format pair
past_tense payload_splitting persona persuasion prefix_injection random_search refusal_suppression rot13 tap translation
turns zero_width""".split()
TESTED_ELSEWHERE = {
    **{f"evaluation/attacks/{name}.py": EVERY_ATTACK for name in ATTACKS},
    **{f"online/events/migrations/versions/{name}.py": MIGRATIONS
       for name in ("0001_events", "0002_model", "0003_blocks", "0004_forgotten")},
    "online/events/migrations/env.py": MIGRATIONS,
    "evaluation/command/results.py": "tests/evaluation/command/test_evaluation.py",
    "evaluation/judges/assessment.py": "tests/evaluation/judges/test_yes_no.py",
    "evaluation/judges/declining.py": "tests/evaluation/judges/test_refusals.py",
    "evaluation/judges/languages.py": "tests/evaluation/judges/test_refusals.py",
    "evaluation/lm_eval_harness.py": "tests/interop/test_lm_eval.py",
    "evaluation/peers/peer.py": "tests/evaluation/peers/test_every_peer.py",
    "evaluation/plots.py": "tests/evaluation/test_page.py",
    "evaluation/suites/public.py": "tests/evaluation/suites/test_loader.py",
    "evaluation/tables.py": "tests/evaluation/test_page.py",
    "evaluation/utility/error.py": "tests/evaluation/utility/test_check.py",
    "evaluation/utility/launcher.py": "tests/evaluation/utility/test_code.py",
    "guard/errors.py": "tests/guard/test_calibration.py",
    "online/gate/claims.py": "tests/online/gate/test_gate.py",
    "online/gate/figures.py": "tests/online/gate/test_gate.py",
    "online/gate/joined.py": "tests/online/gate/test_examination.py",
    "online/gate/signs.py": "tests/online/gate/test_gate.py",
    "online/admission/queued.py": "tests/online/training/test_quotas.py",
    "online/events/ordinary_words.py": "tests/online/events/test_recognisers.py",
    "online/gate/evaluator.py": "tests/online/updates/test_update.py",
    "online/model/sample.py": "tests/online/training/test_presets.py",
    "online/registry/errors.py": "tests/online/registry/test_registry.py",
    "online/registry/release_record.py": "tests/online/registry/test_release_stages.py",
    "online/settings/groups.py": "tests/online/settings/test_settings.py",
    "online/state/finding.py": "tests/online/state/test_directory.py",
    "online/updates/repeat.py": "tests/online/updates/test_forget.py",
    "serving/admin/routes/common.py": "tests/serving/admin/routes/test_adapters.py",
    "serving/app.py": "tests/serving/request/test_api_keys.py",
    "serving/engine/scheduler.py": "tests/serving/engine/test_residual_stream.py",
    "serving/cli/calibrate.py": "tests/serving/test_bad_input.py",
    "serving/cli/demo.py": "tests/serving/demo/test_story.py",
    "serving/cli/doctor.py": "tests/serving/test_doctor.py",
    "serving/cli/learn.py": "tests/online/operations/test_updates.py",
    "serving/cli/repeat.py": "tests/serving/test_forget.py",
    "serving/cli/reproduce.py": "tests/serving/test_reproduce.py",
    "serving/cli/update.py": "tests/serving/test_bad_input.py",
    "serving/demo/measure.py": "tests/serving/demo/test_story.py",
    "serving/engine/adapters.py": "tests/serving/test_swap.py",
    "serving/engine/arguments.py": "tests/serving/test_bad_input.py",
    "serving/engine/faults.py": "tests/serving/test_enforce.py",
    "serving/engine/guarded.py": "tests/serving/test_swap.py",
    "serving/engine/lora_budget.py": "tests/serving/test_swap.py",
    "serving/engine/probe.py": "tests/serving/test_exact.py",
    "serving/engine/selftest.py": "tests/serving/test_doctor.py",
    "serving/engine/served.py": "tests/serving/lifecycle/test_service.py",
    "serving/engine/server.py": "tests/serving/test_parity.py",
    "serving/engine/worker.py": "tests/serving/test_exact.py",
    "serving/model_check.py": "tests/serving/test_bad_input.py",
    "serving/request/errors.py": "tests/serving/request/test_offered_models.py",
}  # fmt: skip
"""Module -> the test file that runs it: parts of what another module does, errors, and what takes a whole server."""
FEATURES = {
    "tests/evaluation/attacks/test_adaptive.py": "Attacks that go by the answers.",
    "tests/evaluation/attacks/test_disguises.py": "Attacks that hide what is asked.",
    "tests/evaluation/attacks/test_every_attack.py": "What holds for every attack.",
    "tests/evaluation/peers/test_every_peer.py": "What holds for every known defence.",
    "tests/online/test_real_model.py": "A published model, fetched, in the learner's hands.",
    "tests/online/updates/test_killed.py": "A process that dies at any step of a version's life.",
    "tests/serving/lifecycle/test_registry_sync.py": "A learner and a server that share a store.",
    "tests/serving/test_bad_input.py": "Commands that cannot work are refused in a sentence.",
    "tests/serving/test_doors.py": "Fields that once got withheld text out.",
    "tests/serving/test_edge.py": "Root path, middleware and keys around the guard.",
    "tests/serving/test_enforce.py": "What is touched is halted on every route.",
    "tests/serving/test_over_refusal.py": "A needless refusal is answered anew, and nothing else is.",
    "tests/serving/test_engines.py": "Other engines and devices.",
    "tests/serving/test_exact.py": "Every entropy against a forward pass.",
    "tests/serving/test_forget.py": "Commands that forget, explain and repeat.",
    "tests/serving/test_killed.py": "Servers and learners that are killed.",
    "tests/serving/test_load.py": "Hard clients.",
    "tests/serving/test_openai.py": "OpenAI's own client.",
    "tests/serving/test_parity.py": "The same requests to plain vLLM and to us.",
    "tests/serving/test_published.py": "Adapters in plain vLLM.",
    "tests/serving/test_reasoning.py": "Models that reason.",
    "tests/serving/test_reproduce.py": "The published experiment by its command.",
    "tests/serving/test_swap.py": "Swaps under load.",
}
"""Test files of what several modules do together."""
COMMANDS, STARTED = "serving/cli/main.py", ("serving/engine/worker.py", "serving/engine/selftest.py")
"""What a test that starts `sirl` runs, with what that starts by name."""


@cache
def files() -> frozenset[str]:
    return frozenset(path.relative_to(ROOT).as_posix() for path in tracked() if path.suffix == ".py")


def is_tested(module: str) -> bool:
    """Whether a file is a module that has tests, which packages and `python -m` are not."""
    return module.startswith(tuple(f"{package}/" for package in MIRRORED)) and Path(module).stem not in (
        "__init__",
        "__main__",
    )


def mirror(module: str) -> str:
    """Where the tests of a module are."""
    path = Path(module)
    return f"tests/{path.parent.as_posix()}/test_{path.name}"


@cache
def uses(file: str) -> frozenset[str]:
    """Our files that a file imports, by whatever form: modules, and packages by their `__init__.py`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    paths = {name.replace(".", "/") for name in names}
    return frozenset({f"{path}.py" for path in paths} | {f"{path}/__init__.py" for path in paths}) & files()


@cache
def reached(start: str) -> frozenset[str]:
    """All that a file imports, and what that imports, to the end."""
    found, ahead = {start}, [start]
    while ahead:
        fresh = uses(ahead.pop()) - found
        found |= fresh
        ahead += fresh
    return frozenset(found)


def starts_sirl(test: str) -> bool:
    """Whether a test file runs a command, or asks a server that was started by one."""
    source = (ROOT / test).read_text()
    given = {
        argument.arg for node in ast.walk(ast.parse(source)) if isinstance(node, ast.arguments) for argument in node.args
    }
    named = {alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) for alias in node.names}
    by = {"tests/serving/command.py", "serving/processes/server_process.py", COMMANDS}
    asked = test.startswith("tests/serving/") and {"server", "calibrated"} & given
    return bool(asked or "running" in named or uses(test) & by or '"-m", "serving"' in source)


def runs(test: str) -> set[str]:
    """The modules that a test file runs: what it imports, what those are made of, and `sirl` where it starts that."""
    direct = uses(test)
    found = {*direct, *(part for module in direct for part in uses(module))}
    if starts_sirl(test):
        found |= {module for start in (COMMANDS, *STARTED) for module in reached(start)}
    if folder := FOLDERS.get(test):
        found |= {file for file in files() if file.startswith(f"{folder}/")}
    return found


def test_every_module_has_its_tests():
    missing = {file for file in files() if is_tested(file) and mirror(file) not in files()}
    assert missing - TESTED_ELSEWHERE.keys() == set(), "write the file of its name, or say in TESTED_ELSEWHERE what runs it"
    assert TESTED_ELSEWHERE.keys() - missing == set(), "it is gone, or has a file of its own: take it out"


@pytest.mark.parametrize("module", TESTED_ELSEWHERE)
def test_what_is_tested_elsewhere_is_run_there(module):
    test = TESTED_ELSEWHERE[module]
    assert test in files() and module in runs(test)


def test_every_test_file_is_of_a_module_or_a_feature():
    mirrored = {mirror(file) for file in files()}
    mirrored |= {mirror(str(Path(file).parent) + ".py") for file in files() if file.endswith("/__init__.py")}
    strays = {
        file
        for file in files()
        if file.startswith(tuple(f"tests/{package}/" for package in MIRRORED)) and Path(file).name.startswith("test_")
    } - mirrored
    assert strays == FEATURES.keys()
    assert all(about.endswith(".") for about in FEATURES.values())


def test_a_wrong_pointer_would_be_seen():
    assert "guard/rule.py" in runs("tests/guard/test_rule.py") and "serving/app.py" not in runs("tests/guard/test_rule.py")
    assert "serving/engine/probe.py" in runs("tests/serving/test_exact.py")
    assert "evaluation/attacks/pair.py" not in runs("tests/evaluation/peers/test_keyword.py")
