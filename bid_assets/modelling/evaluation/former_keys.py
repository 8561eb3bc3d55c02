"""Keys of reports, decisions and metadata that earlier releases stored. They go in the next release."""

from __future__ import annotations

from typing import Any

_CURRENT = {
    "outlook": "performance_forecast",
    "swing": "between_period_sd",
    "figures": "metrics",
    "figure": "value",
    "probability_of_nothing": "empty_row_probability",
    "judged_rows": "holdout_rows",
    "threshold_aim": "threshold_objective",
}


def with_current_keys(content: Any) -> Any:
    """Stored JSON under the keys of today, in whichever release it was written."""
    if isinstance(content, dict):
        return {_CURRENT.get(key, key): with_current_keys(value) for key, value in content.items()}
    return [with_current_keys(value) for value in content] if isinstance(content, list) else content
