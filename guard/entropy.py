"""Token entropy in NumPy: the reference that every other computation of it is tested against."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def token_entropy(logits: ArrayLike) -> NDArray[np.float64]:
    """Shannon entropy in nats of softmax(logits) at temperature 1, over the whole last axis.

    H = -sum_v p_v log p_v = logsumexp(x) - sum_v p_v x_v, in float64. A logit of -inf has probability 0 and adds
    nothing (0 log 0 = 0); a NaN, or a row without a finite logit, gives NaN, for silence would look like confidence.

    Shape (..., vocabulary) -> (...). Source: arXiv 2510.01088, the entropy inside the reward.
    """
    x = np.asarray(logits, dtype=np.float64)
    top: NDArray[np.float64] = x.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        shifted = x - top
        weights = np.exp(shifted)
    total: NDArray[np.float64] = weights.sum(axis=-1)
    weighted: NDArray[np.float64] = np.where(weights > 0, weights * np.where(weights > 0, shifted, 0.0), 0.0).sum(axis=-1)
    return np.log(total) - weighted / total
