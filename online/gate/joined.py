"""What was measured in parts, as one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from online.gate.held_out import Rows


def joined(parts: Sequence[Any], rows: Sequence[Rows], **fields: Sequence[str]) -> dict[str, Any]:
    """Each field of the parts in the order of the whole; fields: those with an entry for each of a kind of rows."""
    found: dict[str, Any] = {}
    for kind, names in fields.items():
        order = np.argsort(np.concatenate([getattr(each, kind) for each in rows]))
        found |= {name: _ordered([getattr(part, name) for part in parts], order) for name in names}
    return found


def _ordered(parts: Sequence[Any], order: NDArray[np.int64]) -> Any:
    """Arrays, or tuples, as one in a given order."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)[order]
    whole = [*chain(*parts)]
    return tuple(whole[at] for at in order)
