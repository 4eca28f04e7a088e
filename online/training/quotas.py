"""Quotas: the share of an update's training set that may come from one client, one block of addresses, one topic.

They are taken of what is learned from by itself, for a flood of prompts that the base hesitates on must not outvote those
of everybody else, however much else there is. Of the others, those nearest to it are steered away from refusing: there
quotas hold of the nearest however many one takes, for a flood of prompts that the base just lets through must not fill it.
A topic is a token: the one that most of a prompt's contested neighbours share with it and ordinary traffic hardly has.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence

from guard.openings import Tokens
from online.admission.queued import Queued
from online.settings.groups import QueueSettings
from online.training.selector import Selection

LEAST = 2
"""Prompts that anybody may teach in a band."""
ORDINARY = 0.01
"""A token that more of the low band has than this share of its prompts marks no topic."""
COMMON = 0.5
"""Nor does one that more of the contested prompts have, from more of the senders: that is what such prompts are like."""


def within_quotas(
    selection: Selection, queued: Mapping[Tokens, Queued], settings: QueueSettings
) -> tuple[Selection, dict[str, int]]:
    """The selection without what is over a quota, and how many prompts each kind of quota took out of it.

    Which prompts of a client stay is decided by their salted hashes, which no client knows. Approved ones always stay.
    """
    taken = {"client": 0, "block": 0, "topic": 0}
    ones = [queued[tokens] for tokens in selection.prompts]

    def limited(band: list[int], kind: str, keys: Sequence[Hashable], share: float, rule: Rule) -> list[int]:
        nobody = (None if ones[i].fate == "approved" else key for i, key in zip(band, keys, strict=True))
        left = [i for i, stay in zip(band, rule(list(nobody), share), strict=True) if stay]
        taken[kind] += len(band) - len(left)
        return left

    def by_sender(band: list[int], rule: Rule) -> list[int]:
        band = limited(band, "client", owners([ones[i].clients for i in band]), settings.client_share, rule)
        return limited(band, "block", owners([ones[i].blocks for i in band]), settings.block_share, rule)

    high = by_sender(sorted(selection.high, key=lambda i: ones[i].prompt), fair)
    ordinary = [ones[i].own for i in selection.low]
    about = topics([ones[i].own for i in high], owners([ones[i].clients for i in high]), ordinary)
    high = limited(high, "topic", about, settings.topic_share, fair)
    nearest_first = sorted((*selection.grey, *selection.low), key=lambda i: (-selection.masses[i], ones[i].prompt))
    return selection.only([*high, *by_sender(nearest_first, fair_throughout)]), taken


Rule = Callable[[Sequence[Hashable], float], list[bool]]
"""Which rows of these keys stay for a share."""


def fair(keys: Sequence[Hashable], share: float) -> list[bool]:
    """Which rows stay, so that no key has more than `share` of what stays, or twice an equal part where that is more.

    The first rows of each key stay. The limit is the largest c with c <= share * sum(min(rows of a key, c)), so that who
    sends more does not raise it; None is nobody, and always stays.
    """
    rows = Counter(key for key in keys if key is not None)
    if not rows:
        return [True] * len(keys)
    part, loose = min(1.0, max(share, 2 / len(rows))), len(keys) - rows.total()
    limit = LEAST
    for c in range(LEAST + 1, max(rows.values()) + 1):
        if c > part * (loose + sum(min(count, c) for count in rows.values())):
            break
        limit = c
    seen: Counter[Hashable] = Counter()
    stays = []
    for key in keys:
        seen[key] += 1
        stays.append(key is None or seen[key] <= limit)
    return stays


def fair_throughout(keys: Sequence[Hashable], share: float) -> list[bool]:
    """Which rows stay, so that of the first n that stay no key has more than its share, for every n."""
    part = min(1.0, max(share, 2 / max(1, len(set(keys) - {None}))))
    seen: Counter[Hashable] = Counter()
    stays: list[bool] = []
    for key in keys:
        stay = key is None or 1 + seen[key] <= max(LEAST, part * (1 + sum(stays)))
        seen[key] += stay
        stays.append(stay)
    return stays


def owners(senders: Sequence[frozenset[str]]) -> list[str | None]:
    """Whom each prompt counts for: of all that sent it the one with the fewest, so that nobody can use up another's part by
    sending what they send; nobody where that is not known ("")."""
    sent = Counter(one for those in senders for one in those)
    return [min(those, key=lambda one: (sent[one], one)) or None for those in senders]


def topics(prompts: Sequence[Tokens], senders: Sequence[str | None], low: Sequence[Tokens]) -> list[int | None]:
    """The topic of each of these prompts, which count for these senders, as a token id; None for one that has none. `low`:
    the prompts of the low band; all without what they have in common with many."""
    ordinary = Counter(token for tokens in low for token in set(tokens))
    shared = Counter(token for tokens in prompts for token in set(tokens))
    among: defaultdict[int, set[str | None]] = defaultdict(set)
    for tokens, sender in zip(prompts, senders, strict=True):
        for token in tokens:
            among[token].add(sender)
    rare, all_senders = ORDINARY * len(low), len(set(senders))
    telling = {
        token
        for token, count in shared.items()
        if ordinary[token] <= rare and not (count > COMMON * len(prompts) and len(among[token]) > COMMON * all_senders)
    }
    return [max(telling.intersection(tokens), key=lambda t: (shared[t], t), default=None) for tokens in prompts]
