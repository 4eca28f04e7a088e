"""vLLM's check of API keys gives way to ours."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own, as it is imported


def test_vllms_check_is_replaced_whole_or_not_at_all(monkeypatch):
    """Of the keys it would check; with --api-key the environment's counts no more, and an empty one is none."""
    from argparse import Namespace

    from fastapi import FastAPI
    from vllm.entrypoints.serve.middleware.authenticate import AuthenticationMiddleware

    from serving.engine.keys import take_keys
    from serving.engine.version import EngineError

    app = FastAPI()
    app.add_middleware(AuthenticationMiddleware, tokens=["given"])
    monkeypatch.setenv("VLLM_API_KEY", "from-outside")
    assert take_keys(app, Namespace(api_key=["given", ""])) == ("given",) and not app.user_middleware
    with pytest.raises(EngineError, match="API keys"):
        take_keys(app, Namespace(api_key=None))
    monkeypatch.delenv("VLLM_API_KEY")
    assert take_keys(app, Namespace(api_key=None)) == take_keys(app, Namespace(api_key=[""])) == ()
