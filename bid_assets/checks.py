"""Asset checks: what must hold of an asset, and what to do where it does not."""

from __future__ import annotations

import dagster as dg
import pyarrow as pa

rejected_rows_check = dg.AssetCheckSpec(
    name="rows_keep_the_contract",
    asset="rejected_rows",
    description="Every row that was read makes sense. Rows that do not are kept in rejected_rows and enter no feature; "
    "correct them in the application's database and materialise the window again.",
)


def rejected_rows_verdict(rejected: pa.Table) -> dg.AssetCheckResult:
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
