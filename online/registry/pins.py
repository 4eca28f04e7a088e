"""Pins: pins.json, the versions that stay whatever serves."""

import json
from collections.abc import Iterable

from online.registry.active_version import dumps
from online.registry.errors import RegistryError
from online.state.directory import StateDir
from online.state.files import Stamp, stamp, write_atomic


class Pins:
    """Reads and replaces pins.json; writers hold the registry's lock."""

    def __init__(self, state: StateDir) -> None:
        self._path = state.registry / "pins.json"

    def stamp(self) -> Stamp:
        """Changes whenever the file does."""
        return stamp(self._path)

    def read(self) -> tuple[int, ...]:
        """The pinned versions, in order.

        Raises:
            RegistryError: the file is damaged.
        """
        try:
            return parse(self._path.read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RegistryError(
                f"{self._path} is damaged ({error}); delete it and pin what is to stay once more."
            ) from error

    def write(self, versions: Iterable[int]) -> None:
        write_atomic(self._path, dumps({"pins": sorted(versions)}))


def parse(content: bytes) -> tuple[int, ...]:
    """Of the file's content; raises ValueError, KeyError or TypeError where it is none."""
    found = json.loads(content)["pins"]
    if not all(type(version) is int and version > 0 for version in found):
        raise ValueError("it names what is no version")
    return tuple(sorted(set(found)))
