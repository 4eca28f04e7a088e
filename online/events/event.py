"""An event: one stored response, with what the learner needs and nothing that names its client."""

import hashlib
import hmac
import json
import secrets
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

_INT32 = 2**31
# Sampled verdicts: the benign anchor needs a uniform sample of them, not all.
SAMPLED = ("plain", "uncalibrated")
# What the learner learns from; their arrival may start an update.
CONTESTED = ("risky", "contested")


def new_event_id(now: float) -> str:
    """32 hex digits in the layout of a UUIDv7: ids sort by `now` (unix time, seconds) to the millisecond."""
    stamp = int(now * 1000) & (1 << 48) - 1
    noise = secrets.randbits(74)
    return f"{stamp << 80 | 0x7 << 76 | (noise >> 62) << 64 | 0b10 << 62 | noise & (1 << 62) - 1:032x}"


def prompt_hash(tokens: Sequence[int], salt: str) -> str:
    """32 hex digits that tell prompts apart; without the salt not even a guessed prompt can be told from them."""
    return hmac.new(salt.encode(), array("i", tokens).tobytes(), hashlib.sha256).hexdigest()[:32]


def without_middle(tokens: tuple[int, ...], most: int | None) -> tuple[int, ...]:
    """The first and the last of a long prompt's tokens, `most` in all; None: all. What is asked stands at an end of it."""
    if most is None or len(tokens) <= most:
        return tokens
    return (*tokens[: most // 2], *tokens[len(tokens) - (most - most // 2) :])


def _storable(text: str) -> str:
    """Lone surrogates and NUL, which databases refuse, become U+FFFD; the token ids stay as they were."""
    if text.isascii() and "\0" not in text:
        return text
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "\ufffd")


@dataclass(frozen=True, slots=True)
class Event:
    """One response as it is stored.

    Attributes:
        id: see `new_event_id`.
        time: unix time, seconds.
        adapter: "base" or "v<N>".
        verdict: refusal, over_refusal, risky, contested, plain or uncalibrated.
        prompt, response: text; prompt_tokens, response_tokens: the model's token ids.
        entropies: nats, one a response token, kept as float32; entropy_mean: nats, NaN if none was measured.
        refusal_mass: probability, None without a calibration.
        finish_reason: as the client saw it.
        client: see `client_hash`.
        model: fingerprint of the base that answered (token ids are its tokenizer's), "" where it has none.
        block: hash of the client's block of addresses (`address_block`), "" where it is not known.
        began: when its request came (unix time, seconds), 0 where that is not known; the database does not keep it.

    Raises:
        ValueError: a token id does not fit 32 bits.
    """

    id: str
    time: float
    adapter: str
    verdict: str
    prompt: str
    prompt_tokens: tuple[int, ...]
    response: str
    response_tokens: tuple[int, ...]
    entropies: tuple[float, ...]
    entropy_mean: float
    refusal_mass: float | None
    finish_reason: str
    client: str
    model: str = ""
    block: str = ""
    began: float = field(default=0.0, compare=False)

    def __post_init__(self) -> None:
        # What cannot be stored is mended or refused here, so that no event can hold up a batch later.
        for tokens in (self.prompt_tokens, self.response_tokens):
            if tokens and not -_INT32 <= min(tokens) <= max(tokens) < _INT32:
                raise ValueError("an event's token ids must fit 32 bits")
        object.__setattr__(self, "prompt", _storable(self.prompt))
        object.__setattr__(self, "response", _storable(self.response))
        object.__setattr__(self, "entropies", tuple(array("f", self.entropies)))

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: bytes) -> Self:
        """The event of one line.

        Raises:
            ValueError: the line is torn or holds something else.
        """
        fields: dict[str, Any] = json.loads(line)
        try:
            for name in ("prompt_tokens", "response_tokens", "entropies"):
                fields[name] = tuple(fields[name])
            return cls(**fields)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"no event: {error}") from error
