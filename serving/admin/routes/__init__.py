"""The routes of /guard/v1/, a module a noun."""

from serving.admin.routes import adapters, events, queue, rollouts, status, updates

ROUTERS = (status.router, events.router, queue.router, adapters.router, updates.router, rollouts.router)
"""In the order of /openapi.json."""
