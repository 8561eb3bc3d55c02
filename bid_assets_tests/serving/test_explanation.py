from __future__ import annotations

import numpy as np
import pyarrow as pa

from bid_assets.modelling.preprocess import Components, Numbers
from bid_assets.serving.explanation import _of_columns


def test_a_column_that_two_encodings_read_is_one_contribution() -> None:
    """The line on everything reads components of an embedding that the trees do not, after all that they do."""
    few = Components("text", pa.float32(), np.zeros(4), np.eye(4)[:2])
    beyond = Components("text", pa.float32(), np.zeros(4), np.eye(4)[2:], first=2)
    parts = np.array([0.1, 0.2, 1.0, 0.3, 0.4], dtype=np.float32)
    found = [
        (each.column, round(added, 6)) for each, added in _of_columns([few, Numbers("amount", pa.float64()), beyond], parts)
    ]
    assert found == [("text", 1.0), ("amount", 1.0)]
