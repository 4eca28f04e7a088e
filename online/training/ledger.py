"""The ledger: which buffered events taught an adapter.

It lies in the version's folder, under its manifest's digests, and holds no text: an event's id, the hashes of its client and
of its prompt, and where the frozen base put its prompt: its band, its refusal mass and its harm sense.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from guard.errors import SirlError
from online.events.event import Event, prompt_hash
from online.state.files import write_atomic
from online.state.format import require

if TYPE_CHECKING:  # which imports torch, that whoever only reads a ledger does without
    from online.training.selector import Selection

FILE = "ledger.json"
FORMAT = 2
BANDS = ("high", "grey", "low")
"""What became of a prompt: it was learned from, it taught neither side, it anchored."""


class LedgerError(SirlError):
    """A version without a (readable) ledger, or whose ledger's events are gone."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event; time in unix seconds, client as `client_hash`, prompt as `prompt_hash`, band one of BANDS. mass: the tree
    mass, None in a ledger of format 1; harm: log-odds, None where no harm sense sorted."""

    id: str
    time: float
    client: str
    prompt: str
    band: str
    mass: float | None = None
    harm: float | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """The events that taught one version, in order of time; none came after `until` (unix seconds). `cut`: tokens that
    longer prompts were cut to, None where none was."""

    until: float
    entries: tuple[Entry, ...]
    cut: int | None = None

    @classmethod
    def of(cls, until: float, events: Iterable[Event], selection: Selection, salt: str, cut: int | None = None) -> Self:
        """The entries of these events; one counts whose prompt was among the selected, though others asked the same."""
        harms = selection.harms or (None,) * len(selection.prompts)
        where = {
            selection.prompts[at]: (band, selection.masses[at], harms[at])
            for band in BANDS
            for at in getattr(selection, band)
        }
        found = [
            Entry(e.id, e.time, e.client, prompt_hash(e.prompt_tokens, salt), *where[e.prompt_tokens])
            for e in sorted(events, key=lambda e: (e.time, e.id))
            if e.prompt_tokens in where
        ]
        return cls(until, tuple(found), cut)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Of a version's folder. Raises LedgerError where it has none that can be read, FormatError where it is of a newer
        format."""
        try:
            document = json.loads((folder / FILE).read_text("utf-8"))
            require(document, FORMAT, f"the ledger of {folder.name}")
            return cls(float(document["until"]), tuple(Entry(**entry) for entry in document["events"]), document.get("cut"))
        except FileNotFoundError:
            raise LedgerError(f"{folder.name} has no ledger: it was imported, or made before ledgers were kept.") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LedgerError(f"the ledger of {folder.name} cannot be read ({error}): restore its folder.") from None

    def save(self, folder: Path) -> None:
        write_atomic(folder / FILE, json.dumps({"format": FORMAT, **self.to_dict()}))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        cut = {} if self.cut is None else {"cut": self.cut}
        return {"until": self.until, **cut, "events": [asdict(entry) for entry in self.entries]}
