"""Whose word a version is: what is signed holds for its own bytes, name, version and base, and for nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import assume, given
from hypothesis import strategies as st

from online.registry.errors import RegistryError
from online.registry.registry import Registry
from online.registry.signature import KeyFileError, Keys, Statement
from online.settings.groups import RegistrySettings
from online.state.directory import StateDir
from tests.online.registry.adapters import BASE, publish

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def pem(key, password: bytes | None = None) -> bytes:
    hidden = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden)


def public(*keys) -> bytes:
    found = [key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in keys]
    return b"# whoever publishes\n" + b"".join(found)


def private_file(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.fixture
def signing(tmp_path: Path) -> RegistrySettings:
    """The learner's."""
    return RegistrySettings(signing_key=private_file(tmp_path / "key.pem", pem(KEY)))


@pytest.fixture
def trusting(tmp_path: Path) -> RegistrySettings:
    """A server's."""
    return RegistrySettings(trusted_keys=private_file(tmp_path / "trusted.pem", public(OTHER, KEY)))


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path / "state")


# Keys

TEXT = st.text(max_size=8)
STATEMENTS = st.builds(Statement, TEXT, st.integers(1, 20), TEXT, st.binary(max_size=8))


@given(STATEMENTS, STATEMENTS)
def test_a_signature_holds_for_its_own_statement_alone(one: Statement, other: Statement) -> None:
    keys = Keys(KEY, (OTHER.public_key(), KEY.public_key()))
    line = keys.sign(one).encode()
    assert keys.accept(one, line) and keys.accept(one, b"00\nno hex\n" + line + b"\n\xff")
    assume(one != other)
    assert not keys.accept(other, line)
    assert not Keys(None, (OTHER.public_key(),)).accept(one, line)


@given(st.binary(max_size=200))
def test_nonsense_is_no_signature(line: bytes) -> None:
    assert not Keys(None, (KEY.public_key(),)).accept(Statement("manifest.json", 1, BASE, b"{}"), line)


BAD_PRIVATE: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "open to others": (lambda: pem(KEY), 0o640, "is open to others (mode 0640)"),
    "another kind": (lambda: pem(ec.generate_private_key(ec.SECP256R1())), 0o600, "no Ed25519 private key"),
    "a public one": (lambda: public(KEY), 0o600, "no Ed25519 private key"),
    "under a password": (lambda: pem(KEY, b"secret"), 0o600, "without a password"),
    "junk": (lambda: b"\x00junk", 0o600, "no Ed25519 private key"),
}


@pytest.mark.parametrize("case", BAD_PRIVATE)
def test_a_bad_signing_key_is_one_sentence(tmp_path: Path, state: StateDir, case: str) -> None:
    make, mode, wanted = BAD_PRIVATE[case]
    path = private_file(tmp_path / "key.pem", make(), mode)
    assert wanted in refused_at_start(state, RegistrySettings(signing_key=path))


BAD_PUBLIC: dict[str, tuple[Callable[[], bytes], str]] = {
    "another kind": (lambda: public(KEY, rsa.generate_private_key(65537, 2048)), "nothing else"),
    "none": (lambda: b"", "does not hold"),
    "junk": (lambda: public(KEY).replace(b"MC", b"XX"), "does not hold"),
}


@pytest.mark.parametrize("case", BAD_PUBLIC)
def test_bad_trusted_keys_are_one_sentence(tmp_path: Path, state: StateDir, case: str) -> None:
    make, wanted = BAD_PUBLIC[case]
    path = private_file(tmp_path / "trusted.pem", make())
    assert wanted in refused_at_start(state, RegistrySettings(trusted_keys=path))


def test_missing_files_and_a_key_that_is_not_trusted(tmp_path: Path, state: StateDir, signing: RegistrySettings) -> None:
    assert "cannot be read" in refused_at_start(state, RegistrySettings(signing_key=tmp_path / "none.pem"))
    assert "cannot be read" in refused_at_start(state, RegistrySettings(trusted_keys=tmp_path))
    others = private_file(tmp_path / "others.pem", public(OTHER))
    assert "lacks the public half" in refused_at_start(state, signing.model_copy(update={"trusted_keys": others}))


def refused_at_start(state: StateDir, settings: RegistrySettings) -> str:
    with pytest.raises(KeyFileError) as caught:
        Registry(state, BASE, settings)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


# Versions


def whole(registry: Registry) -> int:
    """A version with everything that is signed."""
    version = publish(registry)
    registry.attach(version, "evaluation", {"decision": "promoted"})
    registry.attach(version, "calibration", {"a": 1})
    return version


def test_what_is_published_is_signed_and_a_server_that_trusts_the_key_takes_it(
    state: StateDir, signing: RegistrySettings, trusting: RegistrySettings
) -> None:
    learner = Registry(state, BASE, signing)
    version = whole(learner)
    server = Registry(state, BASE, trusting)
    server.verify(version)
    server.vouch("v1")
    server.vouch("base")
    server.activate(version, actor="test", reason="it was promoted")
    assert server.live() == version and server.versions()[0].decision == "promoted"
    assert (learner.path(version) / "manifest.json.sig").stat().st_mode & 0o777 == 0o400


def test_without_the_key_nothing_is_written_that_would_be_refused(
    state: StateDir, signing: RegistrySettings, trusting: RegistrySettings
) -> None:
    version = whole(Registry(state, BASE, signing))
    server = Registry(state, BASE, trusting)
    for act in (
        lambda: publish(server),
        lambda: server.attach(version, "calibration", {"a": 2}),
        lambda: server.destroy(version, actor="test", reason="trial"),
    ):
        with pytest.raises(RegistryError, match=r"do this where registry\.signing_key is"):
            act()
    with pytest.raises(RegistryError, match="no key to sign with"):
        server.sign(version)
    server.verify(version)
    assert [adapter.version for adapter in server.versions()] == [version]


def change(path: Path, **values: object) -> None:
    path.chmod(0o600)
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


DOCUMENTS = ("manifest.json", "evaluation.json", "calibration.json")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_was_changed_or_lost_its_signature_is_refused(state: StateDir, signing: RegistrySettings, name: str) -> None:
    registry = Registry(state, BASE, signing)
    version = whole(registry)
    path = registry.path(version) / name
    before = path.read_bytes()
    change(path, metrics={"forged": True})
    with pytest.raises(RegistryError, match=f"{name} bears no signature of a trusted key"):
        registry.verify(version)
    path.write_bytes(before)
    registry.verify(version)
    (registry.path(version) / f"{name}.sig").unlink()
    with pytest.raises(RegistryError, match=f"{name} is not signed; .*`sirl adapters sign v1`"):
        registry.activate(version, actor="test", reason="trial", force=True)
    assert registry.live() is None


@pytest.mark.parametrize("name", DOCUMENTS[1:])
def test_what_was_signed_for_one_version_or_base_is_none_for_another(
    state: StateDir, signing: RegistrySettings, name: str
) -> None:
    registry = Registry(state, BASE, signing)
    one = whole(registry)
    other = publish(registry)
    elsewhere = publish(Registry(state, "sha256:other", signing))
    for version, owner in ((other, registry), (elsewhere, Registry(state, "sha256:other", signing))):
        for file in (name, f"{name}.sig"):
            shutil.copy(registry.path(one) / file, registry.path(version) / file)
        with pytest.raises(RegistryError, match=f"{name} bears no signature"):
            owner.verify(version)
        assert owner.versions()[version - 1].decision == ("rejected" if name == "evaluation.json" else None)


def test_another_name_does_not_pass_either(state: StateDir, signing: RegistrySettings) -> None:
    registry = Registry(state, BASE, signing)
    folder = registry.path(publish(registry))
    registry.attach(1, "calibration", {"decision": "promoted"})
    for ending in ("", ".sig"):
        (folder / f"calibration.json{ending}").rename(folder / f"evaluation.json{ending}")
    assert registry.versions()[0].decision == "rejected"
    with pytest.raises(RegistryError, match=r"evaluation\.json bears no signature"):
        registry.activate(1, actor="test", reason="trial", force=True)


def test_a_calibration_made_anew_has_a_signature_at_every_moment(state: StateDir, signing: RegistrySettings) -> None:
    registry = Registry(state, BASE, signing)
    folder = registry.path(whole(registry))
    old = (folder / "calibration.json").read_bytes()
    registry.attach(1, "calibration", {"a": 2})
    registry.vouch("v1")
    (folder / "calibration.json").write_bytes(old)  # as a reader finds it between the two writes
    registry.vouch("v1")
    registry.attach(1, "calibration", {"a": 3})
    (folder / "calibration.json").write_bytes(old)
    with pytest.raises(RegistryError, match="bears no signature"):
        registry.vouch("v1")


def test_an_installation_begins_with_keys_by_signing_what_it_has(state: StateDir, signing: RegistrySettings) -> None:
    whole(Registry(state, BASE))
    registry = Registry(state, BASE, signing)
    with pytest.raises(RegistryError, match="is not signed"):
        registry.verify(1)
    with pytest.raises(RegistryError, match="is not signed"):
        registry.vouch("v1")
    assert registry.sign(1) == list(DOCUMENTS)
    registry.activate(1, actor="test", reason="promoted")
    assert registry.sign(1) == []


def test_only_what_is_sound_is_signed(state: StateDir, signing: RegistrySettings) -> None:
    whole(Registry(state, BASE))
    registry = Registry(state, BASE, signing)
    config = registry.path(1) / "adapter_config.json"
    before = config.read_bytes()
    change(config, r=5)
    with pytest.raises(RegistryError, match="was changed"):
        registry.sign(1)
    assert not list(registry.path(1).glob("*.sig"))
    config.write_bytes(before)
    (registry.path(1) / "evaluation.json.sig").write_text("00" * 64)
    with pytest.raises(RegistryError, match=r"evaluation\.json bears no signature"):
        registry.sign(1)


def test_destroyed_and_collected_versions_stay_signed(state: StateDir, signing: RegistrySettings) -> None:
    registry = Registry(state, BASE, signing.model_copy(update={"keep": 1}))
    for _ in range(3):
        whole(registry)
    assert registry.collect(actor="test") == [1, 2]
    registry.destroy(2, actor="test", reason="trial")
    for version in (1, 2):
        registry.folder(version).check(BASE, registry.keys)
