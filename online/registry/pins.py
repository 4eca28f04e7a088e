"""Pins: pins.json, the versions that stay whatever serves."""

import json
from collections.abc import Iterable

from online.registry.active_version import dumps
from online.registry.errors import RegistryError
from online.state.directory import StateDir
from online.state.files import Stamp, stamp, write_atomic
from online.state.format import require

FORMAT = 1


FORMAT = 1


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
            FormatError: a newer sirl-guard wrote it.
        """
        try:
            return parse(self._path.read_bytes(), self._path)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryError(
                f"{self._path} is damaged ({error}); delete it and pin what is to stay once more."
            ) from error

    def write(self, versions: Iterable[int]) -> None:
        write_atomic(self._path, dumps({"format": FORMAT, "pins": sorted(versions)}))


def parse(content: bytes, what: object = "pins.json") -> tuple[int, ...]:
    """Of the file's content; raises ValueError, KeyError, TypeError or AttributeError where it is none, and FormatError
    (with `what` as the file's name) where it is of a newer format."""
    document = json.loads(content)
    require(document, FORMAT, what)
    found = document["pins"]
    if not all(type(version) is int and version > 0 for version in found):
        raise ValueError("it names what is no version")
    return tuple(sorted(set(found)))
