"""Our routes and our middleware, put around vLLM's application."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI

from serving import admin
from serving.access import Access
from serving.middleware import GuardMiddleware
from serving.service import Service


def install(app: FastAPI, service: Service, draining: Callable[[], bool], *, checked: bool) -> None:
    """Add the administration and wrap the application. `checked`: whether vLLM checks clients' keys.

    vLLM's `build_app` returns an application whose middleware stack is built, so ours goes around the whole of it.
    """
    app.state.sirl, app.state.access = service, Access(service.settings.guard, service.state)
    app.include_router(admin.router)
    app.include_router(admin.internal)
    app.middleware_stack = GuardMiddleware(
        app.middleware_stack or app.build_middleware_stack(),
        metrics=service.metrics,
        report=service.settings.guard.report,
        internal_key=service.state.internal_key(),
        salt=service.state.client_salt(),
        policies=service.policies,
        no_store_keys=service.settings.guard.no_store_keys,
        keyed=service.settings.guard.clients == "keys" or (checked and service.settings.guard.clients == "auto"),
        max_body_mib=service.settings.guard.max_body_mib,
        draining=draining,
        version_of=service.version_of,
    )
