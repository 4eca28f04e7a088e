"""What a peer is: a known defence before a target, which answers the same queries and may refuse them.

It passes on what the query asks for and changes only what its method changes; requests that fail, fail as they would
without it; all chance is the seed's. Peers stand before each other as before an endpoint.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evaluation.endpoint import Target
from evaluation.peers.refusal import REFUSAL, looks_refused
from guard.errors import SirlError


class PeerError(SirlError):
    """A defence that cannot be set up; one sentence with cause and mend."""


@dataclass(frozen=True, slots=True)
class Manner:
    """What peers have in common. refusal: what is said instead of an answer, in words the judge takes for a refusal;
    is_refusal: whether a response is one, for those that count votes; key: the environment variable with the key of a
    guard's own endpoint, which need not be the target's and is not sent there."""

    refusal: str = REFUSAL
    is_refusal: Callable[[str], bool] = looks_refused
    key: str = "LLM_GUARD_API_KEY"


@dataclass(frozen=True, slots=True)
class Peer:
    """One known defence. form: its spec as it is written; build(given, target, manner): the defence before the target, from
    what stands behind the colon of a spec. Raises PeerError."""

    name: str
    form: str
    about: str
    source: str
    build: Callable[[str, Target, Manner], Target]


def options(form: str, given: str, known: dict[str, Any]) -> dict[str, Any]:
    """The options in key=value pairs with commas between, each of the type that `known` has for it; others stay as there.
    `form` is what PeerError says is right."""
    found = dict(known)
    for pair in filter(None, given.split(",")):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or key not in known:
            raise PeerError(f"{pair!r} is no option of {form}: give some of {', '.join(known)}, each as {key or 'n'}=value.")
        try:
            found[key] = type(known[key])(value)
        except ValueError:
            raise PeerError(
                f"{key}={value} is no number of the kind that {form} takes: write it like {known[key]}."
            ) from None
    return found
