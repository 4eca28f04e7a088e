"""The ledger: which buffered events taught an adapter.

It lies in the version's folder, under its manifest's digests, and holds no text of anybody's: an event's id, the hashes of
its client and of its prompt, and where the frozen base put that: its band, its refusal mass and its harm sense. Prompts that
the model made up itself are in it whole.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from guard.errors import SirlError
from guard.openings import Tokens
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
class OwnPrompt:
    """A prompt that the model made up itself, with its tree mass and its harm sense as of an entry."""

    tokens: Tokens
    mass: float
    harm: float | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    """The events that taught one version, in order of time; none came after `until` (unix seconds). `cut`: tokens that
    longer prompts were cut to, None where none was. own: prompts that the model made up itself, in the order in which they
    were selected."""

    until: float
    entries: tuple[Entry, ...]
    cut: int | None = None
    own: tuple[OwnPrompt, ...] = ()

    @classmethod
    def of(cls, until: float, events: Collection[Event], selection: Selection, salt: str, cut: int | None = None) -> Self:
        """The entries of these events; one counts whose prompt was among the selected, though others asked the same. What
        was selected and asked by nobody is the model's own."""
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
        asked = {e.prompt_tokens for e in events}
        own = [OwnPrompt(p, *where[p][1:]) for p in selection.prompts if p not in asked]
        return cls(until, tuple(found), cut, tuple(own))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Of a version's folder. Raises LedgerError where it has none that can be read, FormatError where it is of a newer
        format."""
        try:
            document = json.loads((folder / FILE).read_text("utf-8"))
            require(document, FORMAT, f"the ledger of {folder.name}")
            entries = tuple(Entry(**entry) for entry in document["events"])
            own = tuple(OwnPrompt(tuple(one["tokens"]), one["mass"], one["harm"]) for one in document.get("own", ()))
            return cls(float(document["until"]), entries, document.get("cut"), own)
        except FileNotFoundError:
            raise LedgerError(f"{folder.name} has no ledger: it was imported, or made before ledgers were kept.") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LedgerError(f"the ledger of {folder.name} cannot be read ({error}): restore its folder.") from None

    def save(self, folder: Path) -> None:
        write_atomic(folder / FILE, json.dumps({"format": FORMAT, **self.to_dict()}))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        cut = {} if self.cut is None else {"cut": self.cut}
        own = {"own": [asdict(one) for one in self.own]} if self.own else {}
        return {"until": self.until, **cut, "events": [asdict(entry) for entry in self.entries], **own}
