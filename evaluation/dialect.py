"""The dialect of an endpoint: by what names it takes the parameters of a request, learnt from what it refuses.

Reasoning models behind OpenAI's own API and Azure's take `max_completion_tokens` for `max_tokens`, and no temperature but
their own; other endpoints take no `seed`. Each says so in a 400 (some in a 422): the request is asked again, as it wants it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openai import APIStatusError

OTHER_NAMES: Mapping[str, str] = {"max_tokens": "max_completion_tokens"}
"""Parameters that a request cannot do without, and what else they are called."""
OPTIONAL = ("temperature", "seed")
"""Parameters in whose place an endpoint may have something of its own."""
UNKNOWN = re.compile(
    r"unsupported|not (?:currently )?support|unrecogni[sz]ed|unknown|unexpected|extra (?:inputs|fields)|extra_forbidden"
    r"|not (?:permitted|allowed)|deprecated|max_completion_tokens"
)
"""How endpoints say that they do not take a parameter at all, or none of its values; one out of range reads otherwise."""
READ = 600
"""Characters of an error's text that are read: what comes after may be the request, echoed."""


@dataclass
class Dialect:
    """What one endpoint was found to want. Each thing is learnt once, so asking again comes to an end; may be shared by
    threads, for what one of them learns the others need not."""

    renamed: set[str] = field(default_factory=set)
    left_out: set[str] = field(default_factory=set)

    def worded(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """A request as the endpoint takes it."""
        named = {OTHER_NAMES[name] if name in self.renamed else name: value for name, value in asked.items()}
        return {name: value for name, value in named.items() if name not in self.left_out}

    def learns(self, error: APIStatusError, sent: Mapping[str, Any]) -> bool:
        """Learn from the refusal of what was `sent`; whether the same request would now be worded otherwise."""
        if error.status_code not in (400, 422):
            return False
        said = str(error.body if isinstance(error.body, Mapping | list) else error.message)[:READ].casefold()
        if UNKNOWN.search(said):
            known = [error.param] if error.param else re.findall(r"\w+", said)
            self.renamed |= {name for name in OTHER_NAMES if name in sent and name in known}
            self.left_out |= {name for name in OPTIONAL if name in sent and name in known}
        return self.worded(sent) != dict(sent)
