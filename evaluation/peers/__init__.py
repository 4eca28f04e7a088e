"""Peers: defences that are known, each before a target, so that they are asked what ours is asked."""

from evaluation.endpoint import Target
from evaluation.peers import best_of, keyword, llm_guard, perplexity, reminder, smooth
from evaluation.peers.peer import Manner, Peer, PeerError

__all__ = ["PEERS", "Manner", "Peer", "PeerError", "defended"]

PEERS: dict[str, Peer] = {
    module.PEER.name: module.PEER for module in (best_of, keyword, llm_guard, perplexity, reminder, smooth)
}
"""The peers by name, the first word of a spec."""


def defended(spec: str, target: Target, manner: Manner | None = None) -> Target:
    """The target behind the defence that a spec names, such as "keyword" or "smooth:n=6,q=10" (each peer's form); the result
    may be defended again. Raises SirlError: PeerError where the spec is malformed, ModelError where a model cannot be
    loaded."""
    name, _, given = spec.strip().partition(":")
    if name not in PEERS:
        raise PeerError(
            f"{name!r} is no defence that is known: write one of {'; '.join(peer.form for peer in PEERS.values())}."
        )
    return PEERS[name].build(given, target, manner or Manner())
