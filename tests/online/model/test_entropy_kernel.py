"""The entropy kernel against the NumPy reference: by Triton's interpreter, and on a GPU where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from guard.entropy import token_entropy as reference

pytest.importorskip("triton")
ROOT = Path(__file__).parents[3]
SHAPES = [(0, 9), (7, 3), (5, 151), (3, 8192), (2, 8193), (1, 151_936)]
PRECISIONS = [torch.bfloat16, torch.float16, torch.float64]
INF, NAN = float("inf"), float("nan")


def holds(device: str) -> None:
    """Entropy and logsumexp of every shape and precision, of rows that are no distribution, and of rows that lie apart."""
    from online.model.entropy_kernel import scan

    def equal(logits: torch.Tensor) -> None:
        entropy, normaliser = (one.cpu() for one in scan(logits.to(device)))
        assert entropy.shape == normaliser.shape == logits.shape[:1] and entropy.dtype == normaliser.dtype == torch.float32
        if len(logits):
            np.testing.assert_allclose(entropy, reference(logits.double()), atol=2e-6)
            torch.testing.assert_close(normaliser, logits.double().logsumexp(1).float(), rtol=1e-6, atol=2e-6)

    luck = torch.Generator().manual_seed(0)
    for rows, columns in SHAPES:
        equal(torch.randn(rows, columns, generator=luck) * 6)
    for dtype in PRECISIONS:
        equal((torch.randn(2, 9000, generator=luck) * 6).to(dtype))
    wide = torch.randn(6, 9000, generator=luck)
    for apart in (wide[:, :8500], wide[::2], wide.t()[:4]):
        equal(apart)
    masked = torch.full((3, 20_000), -INF)  # whole pieces without a finite logit
    masked[0, 5], masked[1, 0], masked[1, 19_999], masked[2, 9000:] = 3.0, 2.0, 2.0, 0.5
    equal(masked)
    equal(torch.tensor([[0.0, 0.0, -INF], [5.0, -INF, -INF], [0.0, -300.0, 0.0]]))
    wrong = torch.tensor([[NAN, 1.0], [-INF, -INF], [INF, 0.0], [-INF, NAN], [1.0, 1.0]])
    assert scan(wrong.to(device))[0].isnan().tolist() == [True, True, True, True, False]
    spoilt = torch.zeros(2, 20_000)
    spoilt[0, 15_000] = NAN  # in another piece than the maximum
    assert scan(spoilt.to(device))[0].isnan().tolist() == [True, False]


def test_by_the_interpreter_it_equals_the_reference() -> None:
    program = "from tests.online.model.test_entropy_kernel import holds; holds('cpu')"
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_it_equals_the_reference_and_is_what_runs() -> None:
    from online.model.entropy import _kernel
    from online.model.entropy_kernel import scan

    holds("cuda")
    assert _kernel() is scan
