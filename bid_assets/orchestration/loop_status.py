"""The status of the loop, as plain data: what is active, what waits, what failed, what ran last, what the retraining policy
says.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import dagster as dg

from bid_assets.deployments.commands import MODEL
from bid_assets.deployments.events import active_model, read_history
from bid_assets.orchestration.instance import open_instance
from bid_assets.orchestration.refresh.change_detection import detect_new_rows
from bid_assets.orchestration.retraining.policy import RetrainingRules, RetrainingState, decide
from bid_assets.orchestration.retraining.state import gather_state
from bid_assets.orchestration.run_history import (
    REASON_TAG,
    REFRESH_KINDS,
    RunKind,
    failure_message,
    finished_runs,
    latest_runs,
    new_outcomes_cursor,
    unresolved_failures,
)
from bid_assets.settings import Settings
from bid_assets.version_store.store import VersionStore

SHOWN_RUNS = 8


def loop_status(settings: Settings, store: VersionStore) -> dict[str, Any]:
    """JSON-able: `active`, `newest_model`, `outcomes`, `policy` (the decision), `failed_refreshes`, `runs` (newest first)."""
    with open_instance() as instance:
        state = gather_state(instance, store, settings)
        return {
            "active": _active(store),
            "newest_model": _newest_model(store),
            "outcomes": _outcomes(instance, settings, store, state),
            "policy": asdict(decide(state, RetrainingRules.of(settings))),
            "failed_refreshes": _failed_refreshes(instance, settings),
            "runs": _runs(instance),
        }


def _active(store: VersionStore) -> dict[str, Any] | None:
    active = active_model(store)
    if active is None:
        return None
    model = store.manifests([active.model]).get(active.model)
    inputs = model.inputs if model is not None else ()
    dataset = next((ref.version for ref in inputs if ref.asset == "training_dataset"), None)
    return {"model": active.model.version, "window": active.model.partition, "since": active.since, "dataset": dataset}


def _newest_model(store: VersionStore) -> dict[str, Any] | None:
    """The newest model that was made, what it is now, and why."""
    models = store.heads(MODEL, store.partitions(MODEL)).values()
    newest = max(models, key=lambda model: model.created_at, default=None)
    if newest is None:
        return None
    deployments = read_history(store)
    events = deployments.events_of(newest.ref)[-1:]
    return {
        "model": newest.version,
        "window": newest.partition,
        "state": deployments.state(newest.ref).value,
        "by": events[0].by if events else None,
        "reason": events[0].reason if events else None,
    }


def _outcomes(instance: dg.DagsterInstance, settings: Settings, store: VersionStore, state: RetrainingState) -> dict[str, Any]:
    """Outcomes that no dataset holds yet, as the policy counts them; and the windows in which there are unread rows."""
    cursor = new_outcomes_cursor(instance)
    unread = detect_new_rows(settings, store, cursor).windows if cursor is not None else {}
    return {
        "waiting": state.outcomes_since_last_dataset,
        "unread_windows": {table: sorted(keys) for table, keys in unread.items()},
        "followed": cursor is not None,
    }


def _failed_refreshes(instance: dg.DagsterInstance, settings: Settings) -> list[dict[str, Any]]:
    """What could not be read or computed, and no later run has resolved."""
    return [
        {
            "run_id": run.run_id,
            "first": run.first,
            "last": run.last,
            "attempt": run.attempt,
            "slow": run.attempt >= settings.max_attempts,
            "message": failure_message(instance, run.run_id),
        }
        for run in unresolved_failures(finished_runs(instance, REFRESH_KINDS))
    ]


def _runs(instance: dg.DagsterInstance) -> list[dict[str, Any]]:
    return [
        {
            "run_id": run.run_id,
            "kind": run.kind.value if run.kind else "by hand",
            "status": run.status.value,
            "windows": run.first if run.first == run.last else f"{run.first} to {run.last}",
            "created_at": run.created_at,
            "reason": run.tags.get(REASON_TAG),
        }
        for run in latest_runs(instance, list(RunKind), SHOWN_RUNS)
    ]
