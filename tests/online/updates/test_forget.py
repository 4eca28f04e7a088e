"""What taught an adapter, the adapter once more, and the adapter that would have been without some of it."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event as Flag

import pytest

from online.events.buffer import Buffer, BufferError
from online.events.client import client_hash, client_named
from online.events.event import Event
from online.events.journal import Journal
from online.events.writer import BufferWriter
from online.gate.evaluator import Suites
from online.gate.gate import OnTheWay
from online.registry.errors import RegistryError
from online.registry.registry import Registry
from online.settings.groups import BufferSettings, RegistrySettings
from online.state.directory import StateDir
from online.state.locks import Busy
from online.training.ledger import BANDS, Ledger, LedgerError
from online.updates.forget import Successor, erase
from online.updates.record import UpdateRecord
from online.updates.repeat import repeat
from tests.online.events.traffic import make, until
from tests.online.tiny_model import Quiet
from tests.online.updates.place import HERS, Place, Visited


@pytest.fixture
def taught(learned: Path, tmp_path: Path) -> Visited:
    """A place whose live version learned from her, among others."""
    place = Visited(shutil.copytree(learned, tmp_path / "taught"))
    place.registry.activate(1, actor="test", reason="", force=True)
    return place


def stored(place: Place, text: str) -> bool:
    """Whether a text lies in the files of the buffer, deleted rows and logs included."""
    return any(text.encode() in file.read_bytes() for file in place.state.path.glob("buffer*"))


@pytest.mark.slow
def test_an_adapter_without_a_client_is_the_one_that_would_have_been(
    taught: Visited, suites: Suites, tmp_path: Path
) -> None:
    ledger = Ledger.load(taught.registry.path(1))
    her = client_named(taught.state, "mallory")
    assert client_named(taught.state, her) == her == client_hash("mallory", taught.state.client_salt())
    mine = [entry for entry in ledger.entries if entry.client == her]
    assert mine and {entry.band for entry in ledger.entries} <= set(BANDS)
    taught_by = {entry.prompt for entry in ledger.entries}
    assert 100 < len(taught_by) < 120, "as many as three steps look at, but for those that are never taught"
    text = next(e.prompt for e in taught.buffer.events() if e.client == her)
    manifest = taught.registry.manifest(1)
    assert text not in json.dumps(manifest) and text not in (taught.registry.path(1) / "ledger.json").read_text()

    there, again = repeat(taught.state, taught.registry, taught.buffer, taught.base_dir, 1, bar=Quiet)
    assert there == again, "the same events teach the same adapter"

    assert stored(taught, text)
    done = erase(taught.state, taught.registry, taught.buffer, [her], [])
    assert done.events == len(HERS) and done.versions == (1,) and done.successor is not None
    assert taught.registry.live() is None, "the base serves until the successor has passed its gate"
    assert not stored(taught, text) and not taught.buffer.of_client(her) and her not in taught.buffer.first_seen()
    assert sorted(f.name for f in taught.registry.path(1).iterdir()) == ["forgotten.json", "manifest.json"]
    (tomb,) = taught.registry.versions()
    assert tomb.state == "forgotten"
    with pytest.raises(RegistryError, match="to be forgotten"):
        taught.registry.activate(1, actor="test", reason="", force=True)

    version = taught.rebuilt(done.successor, suites)
    assert not any(entry.client == her for entry in Ledger.load(taught.registry.path(version)).entries)
    assert Successor.planned(taught.state) is None
    never = Visited(tmp_path / "never", she_came=False)
    assert never.run(suites).version == 1
    assert taught.weights(version) == never.weights(1), "bit for bit"


@pytest.mark.slow
def test_killed_on_its_way_it_can_be_repeated_and_nothing_learns_meanwhile(
    taught: Visited, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = Ledger.load(taught.registry.path(1)).entries[0].id
    with taught.state.lock("update"), pytest.raises(Busy):
        erase(taught.state, taught.registry, taught.buffer, [], [event])
    half, sound = UpdateRecord.new(taught.state.updates), UpdateRecord.new(taught.state.updates)
    half.checkpoint.write_bytes(b"weights half learned")
    sound.sound.write_bytes(b"weights half learned, and not yet kept")
    Journal(taught.state.journal_path).append([e for e in taught.buffer.events() if e.id == event])
    with monkeypatch.context() as broken:
        broken.setattr(Buffer, "delete", lambda *_: (_ for _ in ()).throw(BufferError("the database is away.")))
        with pytest.raises(BufferError):
            erase(taught.state, taught.registry, taught.buffer, [], [event])
    assert taught.registry.live() is None and taught.buffer.get(event) is not None
    done = erase(taught.state, taught.registry, taught.buffer, [], [event])
    assert (done.events, done.versions) == (1, ()) and done.successor is not None and done.successor.version == 1
    assert (
        taught.buffer.get(event) is None
        and not half.folder.exists()
        and not sound.folder.exists()
        and Journal(taught.state.journal_path).empty()
    )
    lines = [json.loads(line) for line in taught.state.audit_path.read_text().splitlines()]
    assert [line["versions"] for line in lines if line["event"] == "events.forgotten"] == [[]]
    assert [line["version"] for line in lines if line["event"] == "adapter.destroyed"] == [1]


def at(moment: float, client: str, began: float = 0.0) -> Event:
    return replace(make(0, when=moment), client=client, began=began)


@pytest.mark.parametrize("away", [False, True])
def test_what_waits_in_a_running_server_or_is_being_answered_is_forgotten_too(tmp_path: Path, away: bool) -> None:
    """A writer whose queue holds her events, with the database there, and with it away, where the journal holds some."""
    state = StateDir(tmp_path / "state")
    hers, other = client_named(state, "mallory"), client_named(state, "alice")
    settings = BufferSettings(flush_interval_s=3600.0 if not away else 0.01)
    database = tmp_path / "elsewhere" / "buffer.sqlite"
    database.parent.mkdir()
    address = f"sqlite:///{database}"
    Buffer(address, settings).close()
    gone = Flag()
    if away:
        gone.set()

    def opened() -> Buffer:
        if gone.is_set():
            raise BufferError("the server does not reach its database.")
        return Buffer(address, settings)

    writer = BufferWriter(opened, state, settings, retry_s=0.02)
    now = time.time()
    before = [at(now - 5, hers, now - 6), at(now - 4, other, now - 5), at(now - 3, hers, now - 4), at(now - 2, other)]
    assert all(map(writer.offer, before))
    if away:
        assert writer.flush(10.0) and not Journal(state.journal_path).empty()
    with closing(Buffer(address, settings)) as buffer:
        erase(state, Registry(state, "sha256:base", RegistrySettings()), buffer, [hers], [before[3].id])
        if away:
            assert hers not in state.journal_path.read_text(), "the journal holds nothing of hers"
        later = time.time()
        under_way, fresh = at(later + 5, hers, now), at(later + 6, hers, later + 1)
        assert writer.offer(under_way) and writer.offer(fresh) and writer.offer(at(later + 7, other, later))
        gone.clear()
        until(lambda: writer.flush(1.0) and Journal(state.journal_path).empty() and not writer.failing)
        found = [(event.id, event.client) for event in buffer.events(newest_first=False)]
        assert found == [(before[1].id, other), (fresh.id, hers), (found[-1][0], other)]
        assert under_way.id not in {identity for identity, _ in found} and buffer.first_seen()[hers] == fresh.time
    assert writer.close()


def test_what_is_forgotten_is_remembered_only_as_long_as_events_are_kept(tmp_path: Path) -> None:
    with closing(Buffer(f"sqlite:///{tmp_path / 'b.sqlite'}", BufferSettings(max_age_days=1.0))) as buffer:
        now = time.time()
        buffer.bury(["mallory"], ["0" * 32], now - 3600)
        buffer.bury(["mallory"], [], now)
        buffer.prune(now + 23 * 3600, math.inf)
        assert buffer.append([at(now - 1, "mallory"), replace(at(now, "x"), id="0" * 32), at(now + 1, "mallory")]) == 1
        buffer.prune(now + 25 * 3600, math.inf)
        assert buffer.append([at(now - 1, "mallory")]) == 1


@pytest.mark.slow
def test_what_cannot_be_repeated_says_why(taught: Visited) -> None:
    def why() -> str:
        with pytest.raises(LedgerError) as found:
            repeat(taught.state, taught.registry, taught.buffer, taught.base_dir, 1, bar=Quiet)
        return str(found.value)

    calibration = taught.state.find_calibration("base", taught.base_dir).read_text()
    taught.state.calibration_path("base").write_text(calibration.replace('"created": "20', '"created": "19'))
    assert "calibrated anew" in why()
    first = Ledger.load(taught.registry.path(1)).entries[0]
    taught.buffer.delete([first.id])
    assert "1 of the prompts are no longer in the buffer" in why()
    assert ledgerless(taught, "{") == "the ledger of v1 cannot be read"
    assert ledgerless(taught, None) == "v1 has no ledger"


def ledgerless(place: Visited, text: str | None) -> str:
    path = place.registry.path(1) / "ledger.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(LedgerError) as found:
        Ledger.load(place.registry.path(1))
    return str(found.value).split(":")[0].split(" (")[0]


@pytest.mark.slow
def test_the_journal_keeps_the_rest(taught: Visited) -> None:
    journal, events = Journal(taught.state.journal_path), taught.buffer.events(limit=5)
    assert journal.remove(lambda event: True) == []
    journal.append(events)
    assert journal.remove(lambda event: event.id == events[2].id) == [events[2].id]
    kept: Sequence = []

    def store(batch) -> int:
        kept.extend(batch)
        return len(batch)

    assert journal.replay(store, 10) == 4 and [e.id for e in kept] == [e.id for e in events if e.id != events[2].id]


@pytest.mark.nightly
def test_a_version_is_repeated_to_the_bit_whatever_made_it(suites: Suites, tmp_path: Path, monkeypatch) -> None:
    """Quotas that took some of what came (which prompts are scored together decides the last bits of their masses), prompts
    of the model's own, and a last step that was not sound."""
    place = Place(tmp_path, events=200, own_prompts=8, look_every=1)
    looks = iter([OnTheWay({}, True, {}), OnTheWay({}, True, {}), OnTheWay({}, False, {})])
    monkeypatch.setattr("online.updates.update.on_the_way", lambda *measured: next(looks))
    events = place.buffer.events(newest_first=False)
    place.buffer.delete([event.id for event in events])
    from_one_block = [replace(e, client=f"c{at % 30}", block=f"b{at % 30 * (at % 2)}") for at, e in enumerate(events)]
    place.buffer.append(from_one_block)
    outcome = place.run(suites)
    assert outcome.version == 1, outcome.reasons
    report = json.loads((place.state.updates / outcome.id / "report.json").read_text())
    assert report["queue"]["over the block quota"] > 0 and report["bands"]["of these the model's own"] > 0
    assert len(report["history"]) == 2 and any("went back from step 3 to step 2" in reason for reason in outcome.reasons)
    assert len(Ledger.load(place.registry.path(1)).own) == report["bands"]["of these the model's own"]
    there, again = repeat(place.state, place.registry, place.buffer, place.base_dir, 1, bar=Quiet)
    assert there == again
    place.buffer.close()
