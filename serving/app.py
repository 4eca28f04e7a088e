"""What is put around an engine: the parts of an endpoint, and our routes and middleware in vLLM's application."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware

from online.operations.installation import Installation
from online.settings.settings import Settings
from serving.admin.access import Access
from serving.admin.routes import ROUTERS
from serving.engine.served import Served
from serving.lifecycle.calibrations import layers_read
from serving.lifecycle.service import Engine, Service
from serving.processes.learner_process import LearnerProcess
from serving.request.api_keys import KeyMiddleware
from serving.request.middleware import GuardMiddleware
from serving.request.policies import Policies


@dataclass(frozen=True, slots=True)
class Application:
    """What an endpoint is made from beside its engine."""

    installation: Installation
    policies: Policies
    learner: LearnerProcess

    @classmethod
    def of(cls, settings: Settings, model: Path, learner: LearnerProcess) -> Application:
        """Reads state directory, keys and policies. Raises SirlError for what is wrong with them."""
        return cls(Installation.of(settings, model), Policies(settings.guard), learner)

    def layers(self) -> tuple[int, ...]:
        """The decoder layers whose residual stream is read."""
        return layers_read(self.installation)

    def build(self, engine: Engine, served: Served) -> Service:
        """The parts around an engine. Raises RedactionError."""
        return Service(self.installation, engine, served, self.policies, self.learner)

    def install(
        self, app: FastAPI, parts: Service, facts: Mapping[str, Any], draining: Callable[[], bool], *, keys: Sequence[str]
    ) -> None:
        """See `install`."""
        install(app, parts, facts, draining, keys=keys)


def install(
    app: FastAPI, service: Service, facts: Mapping[str, Any], draining: Callable[[], bool], *, keys: Sequence[str]
) -> None:
    """Add the administration, and our middleware next to the routes. `facts`: what the workers said of themselves; `keys`:
    the API keys that clients must have.

    Inside all other middleware, vLLM's and the operator's: what they make of a request is what we read, and what they do to
    an answer (compress it, give it CORS headers) is done to ours as well. vLLM's `build_app` returns an application whose
    stack is built, so it is built once more.
    """
    settings = service.settings.guard
    app.state.sirl, app.state.engine_facts = service, dict(facts)
    app.state.access = Access(settings, service.state)
    for router in ROUTERS:
        app.include_router(router)
    app.user_middleware += [
        Middleware(KeyMiddleware, keys=keys),
        Middleware(
            GuardMiddleware,
            metrics=service.metrics,
            report=settings.report,
            internal_key=service.state.internal_key(),
            salt=service.state.client_salt(),
            policies=service.policies,
            no_store_keys=settings.no_store_keys,
            keyed=settings.clients == "keys" or (bool(keys) and settings.clients == "auto"),
            max_body_mib=settings.max_body_mib,
            draining=draining,
            offers=service.offers,
        ),
    ]
    app.middleware_stack = app.build_middleware_stack()
