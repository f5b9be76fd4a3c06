"""A share of the numbers stays in the file, weighted by inputs; what was lost is said."""

from __future__ import annotations

import numpy as np
import pytest
from quantising import normal, optimised, product, stored

from tdsl.quantise.declare import Weight
from tdsl.quantise.pruned import store_pruned


def falling(n: int, m: int) -> np.ndarray:
    """Spectrum i^-0.6."""
    size = min(m, n)
    values = np.arange(1, size + 1) ** -0.6
    left, right = (np.linalg.qr(normal(k, size, seed=k))[0] for k in (n, m + 1))
    return ((left * values) @ right.T[:, :m]).astype(np.float32)


@pytest.mark.parametrize(("kept", "ratio"), [(0.5, 0.54), (0.1, 0.13)])
def test_what_is_kept_is_in_the_file_and_equals_the_original_there(kept, ratio):
    weight = falling(192, 160)
    found = stored(product(weight), f"pruned(kept={kept:.0%})", np.eye(192, dtype=np.float32))
    same = found.found == found.expected
    assert np.mean(same & (found.found != 0)) == pytest.approx(kept, abs=1e-4)
    assert np.all(found.found[~same] == 0)
    assert found.storage.lossy and found.after < ratio * found.before + 1500
    missed = np.linalg.norm(found.found - found.expected) / np.linalg.norm(found.expected)
    assert found.storage.error == pytest.approx(missed, rel=1e-4)
    assert set(optimised(found.model)) <= {"MatMul", "Gemm"}


def test_inputs_that_are_known_lose_less():
    weight = falling(96, 80)
    samples = normal(400, 96) * np.logspace(0, -2, 96, dtype=np.float32)
    blind = stored(product(weight), "pruned(kept=30%)", samples[:50])
    seen = stored(product(weight), "pruned(kept=30%)", samples[:50], [samples])
    errors = [
        np.linalg.norm(one.found - one.expected) / np.linalg.norm(one.expected) for one in (seen, blind)
    ]
    assert errors[0] < 0.6 * errors[1]


def test_what_would_take_as_many_bytes_stays():
    assert store_pruned(Weight(falling(96, 80), rows_first=False), 0.99) is None
    assert store_pruned(Weight(normal(96, 80)), 0.5) is None  # no map
