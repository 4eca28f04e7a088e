"""Client identity: hashes that name nobody without the installation's salt."""

import hashlib
import hmac
import re
from ipaddress import IPv6Address, ip_address, ip_network

from online.state.directory import StateDir


def client_hash(key_or_address: str, salt: str) -> str:
    """32 hex digits that tell clients apart and, without the salt, lead back to none. An IPv6 address counts as its /64, of
    which everybody has all."""
    known = address_block(key_or_address, 32, 64) if ":" in key_or_address else key_or_address
    return hmac.new(salt.encode(), known.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:32]


def address_block(address: str, fourth: int = 24, sixth: int = 48) -> str:
    """What neighbours share, and who holds one address often holds: the /24 of an IPv4 address, the /48 of an IPv6 one, or
    networks of other sizes; what is no address stays as it is."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return str(ip_network((found, fourth if found.version == 4 else sixth), strict=False))


def client_named(state: StateDir, name: str) -> str:
    """The hash of a client: as events show it, or of the API key or address that it came with."""
    return name if re.fullmatch(r"[0-9a-f]{32}", name) else client_hash(name, state.client_salt())
