"""Calibrations in use: read from disk, and taken up where they fit the served model."""

from __future__ import annotations

import logging
from contextlib import suppress

from guard.calibration import Calibration, CalibrationError, Conditions
from online.operations.installation import Installation
from online.registry.errors import RegistryError
from serving.engine.adapters import Adapters
from serving.lifecycle.problems import Problems

log = logging.getLogger("sirl")


class Calibrations:
    """Reads the calibrations of the base and of versions; one that does not fit is a problem, and is not used.

    conditions: what the model is served under (None: not known); reasoning_parser: vLLM's, "" for none.
    """

    def __init__(
        self, installation: Installation, problems: Problems, conditions: Conditions | None, reasoning_parser: str = ""
    ) -> None:
        self.installation, self.problems = installation, problems
        self.conditions, self.reasoning_parser = conditions, reasoning_parser
        self.reservations: dict[str, str] = {}
        """What is to be known of calibrations that are used, by adapter: shown in `status`."""
        self._seen: dict[str, object] = {}

    async def take_up(self, adapters: Adapters) -> None:
        """Give every loaded adapter its calibration, where that is new or changed on disk."""
        for name in list(adapters.slots):
            path = self.installation.state.find_calibration(name, self.installation.model)
            stamp = path.stat().st_mtime_ns if path.exists() else None
            if (str(path), stamp) != self._seen.get(name):
                self._seen[name] = (str(path), stamp)
                await adapters.calibrate(name, self.load(name))
        for name, slot in adapters.slots.items():
            self.problems.note(f"harm sense of {name}", slot.unread)
        for name in self._seen.keys() - adapters.slots.keys():
            del self._seen[name]
            self.reservations.pop(name, None)
            self.problems.pop(f"calibration of {name}", None)
            self.problems.pop(f"harm sense of {name}", None)

    def load(self, name: str) -> Calibration | None:
        """The calibration of an adapter if it fits the model served; else None, and the reason is a problem."""
        installation, part = self.installation, f"calibration of {name}"
        path = installation.state.find_calibration(name, installation.model)
        try:
            if installation.known is not None:
                installation.known.vouch(name)
            calibration = Calibration.load(path)
        except (CalibrationError, RegistryError) as error:
            self.problems.note(part, str(error))
            return None
        if stale := self._stale(calibration, name):
            self.problems.note(part, f"{path} {stale}: run `sirl calibrate` again.")
            return None
        self.problems.note(part, None)
        self._reserve(name, calibration)
        return calibration

    def _stale(self, calibration: Calibration, name: str) -> str | None:
        """Why a calibration does not fit what is served."""
        if calibration.model != self.installation.fingerprint or calibration.adapter != name:
            return "is stale, made for another model or adapter"
        if self.conditions is not None and (unlike := calibration.unlike(self.conditions)):
            return f"is stale, made for {unlike}"
        if self.reasoning_parser and calibration.openings.reasoning is None:
            return "saw no reasoning, which --reasoning-parser tells of"
        return None

    def _reserve(self, name: str, calibration: Calibration) -> None:
        """Note what is to be known of a calibration that is used; a change is logged once."""
        reservation = None if self.conditions is None else calibration.reservation(self.conditions)
        if reservation is None:
            self.reservations.pop(name, None)
        elif self.reservations.get(name) != reservation:
            self.reservations[name] = reservation
            log.info("the calibration of %s %s", name, reservation)


def layers_read(installation: Installation) -> tuple[int, ...]:
    """The decoder layers whose residual stream the calibrations on disk read, those of all versions together. A compiled
    engine cannot be told of others later."""
    versions = installation.known.versions() if installation.known is not None else ()
    layers: set[int] = set()
    for name in ("base", *(f"v{adapter.version}" for adapter in versions)):
        with suppress(CalibrationError):  # said when it is taken up
            found = Calibration.load(installation.state.find_calibration(name, installation.model))
            layers.update(found.sense.layers if found.sense else ())
    return tuple(sorted(layers))
