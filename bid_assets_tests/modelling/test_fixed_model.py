"""The model of a fixed dataset is what it was when it was recorded: renames and moves change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from bid_assets.modelling.model_file import content_hash
from bid_assets_tests.modelling.fixed_model import fixed_model, platform_name, record, rows


def test_its_content_hash_is_the_recorded_one_on_a_recorded_platform() -> None:
    recorded, here = record()["content_hashes"], platform_name()
    if here not in recorded:
        pytest.skip(
            f"no content hash is recorded for {here}, where the last bits may differ; record it on the commit before the "
            f"change: `python -m bid_assets_tests.modelling.fixed_model`"
        )
    assert content_hash(fixed_model()) == recorded[here]


def test_its_probabilities_are_the_recorded_ones_on_every_platform() -> None:
    recorded = record()["probabilities"]
    assert len(recorded) == 64
    np.testing.assert_allclose(fixed_model().predict(rows()), recorded, rtol=0, atol=1e-6)
    row_by_row = fixed_model().predict_matrix(fixed_model().encode_rows(rows().to_pylist()))
    np.testing.assert_allclose(row_by_row, recorded, rtol=0, atol=1e-6)
