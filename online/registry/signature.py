"""Signatures: Ed25519 over the bytes of a manifest, an evaluation and a calibration, and who is trusted."""

import hashlib
import json
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from guard.errors import SirlError
from online.settings.groups import RegistrySettings

_PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)


class KeyFileError(SirlError):
    """A file of keys that cannot be used."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What is signed: a document's content with its name, its version and its base, so that it is no other's."""

    name: str
    version: int
    base: str
    content: bytes

    def __bytes__(self) -> bytes:
        digest = hashlib.sha256(self.content).hexdigest()
        return json.dumps(["sirl-guard", self.name, self.version, self.base, digest]).encode()


@dataclass(frozen=True, slots=True)
class Keys:
    """What is signed with here (None: nothing is) and whose signatures are accepted (none: nobody's are asked for)."""

    signing: Ed25519PrivateKey | None = None
    trusted: tuple[Ed25519PublicKey, ...] = ()

    @classmethod
    def load(cls, settings: RegistrySettings) -> Self:
        """Those that the settings name.

        Raises:
            KeyFileError: a file is missing, open to others or holds no Ed25519 key, or our own key is not trusted.
        """
        signing = None if settings.signing_key is None else _private(settings.signing_key.expanduser())
        own = () if signing is None else (signing.public_key(),)
        if settings.trusted_keys is None:
            return cls(signing, own)
        trusted = _public(settings.trusted_keys.expanduser())
        if any(key not in trusted for key in own):
            raise KeyFileError(
                f"{settings.trusted_keys} lacks the public half of registry.signing_key, so what is signed here would be "
                "refused here: append what `openssl pkey -pubout` makes of it."
            )
        return cls(signing, trusted)

    @property
    def mute(self) -> bool:
        """Whether what is written here would be refused, for want of a key to sign it with."""
        return bool(self.trusted) and self.signing is None

    def sign(self, statement: Statement) -> str:
        """One line of 128 hex digits; there must be a key to sign with."""
        assert self.signing is not None
        return self.signing.sign(bytes(statement)).hex()

    def accept(self, statement: Statement, signatures: bytes) -> bool:
        """Whether a line of `signatures` is one of this statement by a trusted key."""
        return any(self._accepts(bytes(statement), line) for line in signatures.splitlines())

    def _accepts(self, statement: bytes, line: bytes) -> bool:
        try:
            signature = bytes.fromhex(line.decode("ascii", errors="replace"))
        except ValueError:
            return False
        for key in self.trusted:
            try:
                key.verify(signature, statement)
            except InvalidSignature:
                continue
            return True
        return False


def _private(path: Path) -> Ed25519PrivateKey:
    content = _read(path)
    if (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        raise KeyFileError(
            f"{path} is open to others (mode {mode:04o}): run chmod go= on it, and a fresh key if they may have read it."
        )
    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None  # no PEM, another curve's, or under a password
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(
            f"{path} holds no Ed25519 private key without a password; `openssl genpkey -algorithm ed25519` makes one."
        )
    return key


def _public(path: Path) -> tuple[Ed25519PublicKey, ...]:
    try:
        keys = [load_pem_public_key(block) for block in _PUBLIC.findall(_read(path))]
    except (ValueError, UnsupportedAlgorithm):
        keys = []
    found = tuple(key for key in keys if isinstance(key, Ed25519PublicKey))
    if not found or len(found) < len(keys):
        raise KeyFileError(
            f"{path} does not hold Ed25519 public keys in PEM and nothing else; `openssl pkey -pubout` makes one of "
            "a private key."
        )
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise KeyFileError(f"the key file {path} cannot be read ({reason}); check the path and its owner.") from None
