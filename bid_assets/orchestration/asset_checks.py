"""Asset checks: what must hold of an asset, and what to do where it does not."""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg
import pyarrow as pa

from bid_assets.app_db.readability import Reasons, by_column
from bid_assets.orchestration.metadata import readability_metadata

UNREADABLE_SHARE = 0.01
"""So large a share of the values of a column may be unreadable before the check warns."""

READABLE_VALUES = "values_are_readable"
"""Name of the check of an asset that reads JSON values, or times that may be missing."""

rejected_rows_check = dg.AssetCheckSpec(
    name="rows_keep_the_contract",
    asset="rejected_rows",
    description="Every row that was read makes sense. Rows that do not are kept in rejected_rows and enter no feature; "
    "correct them in the application's database and materialize the window again.",
)


def rejected_rows_result(rejected: pa.Table) -> dg.AssetCheckResult:
    """Passes where nothing was set aside; otherwise warns, with the counts by table and kind of reason and some examples."""
    counts = rejected.group_by("table").aggregate([("table", "count")]).to_pylist()
    examples = [
        dg.TableRecord(data={name: str(row[name]) for name in ("table", "id", "reason")})
        for row in rejected.slice(0, 20).to_pylist()
    ]
    return dg.AssetCheckResult(
        check_name=rejected_rows_check.name,
        asset_key="rejected_rows",
        passed=rejected.num_rows == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "rejected_rows": rejected.num_rows,
            **{f"rejected_{count['table']}": count["table_count"] for count in counts},
            **({"examples": dg.MetadataValue.table(records=examples)} if examples else {}),
        },
    )


def readable_values_check(asset: str) -> dg.AssetCheckSpec:
    """The check `READABLE_VALUES` of an asset."""
    return dg.AssetCheckSpec(
        name=READABLE_VALUES,
        asset=asset,
        description="The JSON values and times that are there can be read. Those that cannot are missing in every feature; "
        f"it warns where they are more than {UNREADABLE_SHARE:.0%} of a column.",
    )


def readable_values_result(asset: str, windows: Iterable[Reasons]) -> dg.AssetCheckResult:
    """Warns where too large a share of a column's values cannot be read; shows every column's share."""
    windows = list(windows)
    shares = {f"unreadable_share_{column.column}": column.share for column in by_column(windows)}
    return dg.AssetCheckResult(
        check_name=READABLE_VALUES,
        asset_key=asset,
        passed=all(share <= UNREADABLE_SHARE for share in shares.values()),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={**readability_metadata(windows), **shares},
    )
