"""`bid-assets demo`: from nothing to an active model, with output that explains to a newcomer what was built."""

from __future__ import annotations

import time
from typing import Any

import orjson
from rich.panel import Panel
from rich.table import Table

from bid_assets.app_db.database import app_db_url
from bid_assets.app_db.snapshot_reader import open_snapshot
from bid_assets.cli.database import TRUTH_FOLDER, create_marketplace
from bid_assets.cli.inspect import lineage_tree
from bid_assets.cli.output import console
from bid_assets.cli.run import run
from bid_assets.common.windows import Cadence, utc_now
from bid_assets.deployments.events import ActiveModel, active_model
from bid_assets.settings import Settings, get_settings, keep_in_home
from bid_assets.version_store import lineage
from bid_assets.version_store.manifest import Manifest
from bid_assets.version_store.parquet import WindowedTable
from bid_assets.version_store.store import VersionStore
from bid_assets.version_store.store_metadata import open_store

_REASONS = 5
WEEKS_TO_PLAY = 8
"""The demo's market ends so long before the present, so that it can be played on."""


def demo(*, bids: int, weeks: int) -> None:
    """Simulate a market (unless this folder's demo has one already), run the main job on it, and print the results."""
    started = time.monotonic()
    settings = get_settings()
    if "encoder" not in settings.model_fields_set:  # quick to make; the home remembers it, for the commands that follow
        keep_in_home(settings.home, "encoder", "static")
        get_settings.cache_clear()
        settings = get_settings()
    console.rule("A market with a known truth")
    _ensure_market(settings, bids=bids, weeks=weeks)
    console.rule("The loop: tables, features, dataset, model, decision")
    if not run(None, None, "last", as_json=False):
        raise RuntimeError("the run did not succeed; the messages above say why")
    store = open_store(settings)
    active = active_model(store)
    if active is None:
        raise RuntimeError("no model was activated; the decision above says why")
    console.rule("How good it is")
    console.print(holdout_table(store, settings, active))
    console.rule("What it was made from")
    model = store.manifest(active.model.asset, active.model.partition, active.model.version)
    console.print(lineage_tree(lineage.upstream(store, model)))
    console.rule("What it says of a bid, and why")
    console.print(one_prediction(store, settings, active))
    console.print(_next_steps(active, time.monotonic() - started))


def _ensure_market(settings: Settings, *, bids: int, weeks: int) -> None:
    """Leave a market alone that a demo has made; never touch anybody else's data."""
    from bid_assets.simulation.truth import TRUTH_FILE

    url = app_db_url(settings)
    if not (settings.home / TRUTH_FOLDER / TRUTH_FILE).exists():
        end = Cadence.WEEKLY.floor(utc_now()) - WEEKS_TO_PLAY * Cadence.WEEKLY.length
        create_marketplace(weeks=weeks, bids=bids, seed=7, end=end, overwrite=False)
        return
    with open_snapshot(url, cadence=settings.cadence, chunk_rows=settings.read_chunk_rows) as snapshot:
        console.print(f"The market of an earlier demo is still there: {snapshot.watermark()}")


def holdout_table(store: VersionStore, settings: Settings, active: ActiveModel) -> Table:
    """The active model on its holdout, beside its baselines and beside what the truth itself would score."""
    from bid_assets.modelling.dataset.assemble import rows_in_split
    from bid_assets.simulation.truth import best_possible, read_truth

    head = store.heads("metrics_report", [active.model.partition])
    report = _json(store, head[active.model.partition])
    datasets = WindowedTable(
        store, "training_dataset", [active.model.partition], store.heads("training_dataset", [active.model.partition])
    )
    holdout = rows_in_split(datasets.read(["bid_id", "target_is_success", "split"]), "holdout")
    truth = best_possible(read_truth(settings.home / TRUTH_FOLDER), holdout["bid_id"], holdout["target_is_success"])
    table = Table(
        "on the same later bids", "ROC AUC", "log loss", title=f"{holdout.num_rows:,} bids of the holdout", title_justify="left"
    )
    rows = [
        ("base rate", report["baselines"]["base_rate"]),
        ("history-only logistic regression", report["baselines"]["history_logistic_regression"]),
    ]
    for name, metrics in [
        *rows,
        ("[bold]the model[/bold]", report["model_metrics"]),
        ("the truth itself (best possible)", truth),
    ]:
        table.add_row(name, *("" if metrics[key] is None else f"{metrics[key]:.3f}" for key in ("roc_auc", "log_loss")))
    return table


def one_prediction(store: VersionStore, settings: Settings, active: ActiveModel) -> Table:
    """The window's last bid, as the prediction service would score it at the moment of its submission."""
    from bid_assets.serving.bid_requests import BidRequest
    from bid_assets.serving.explanations import explain_prediction
    from bid_assets.serving.models.loaded_model import LoadedModel
    from bid_assets.serving.online_features import OnlineFeatures

    heads = store.heads("raw_bids", [active.model.partition])
    row = WindowedTable(store, "raw_bids", [active.model.partition], heads).read().sort_by("submitted_at").to_pylist()[-1]
    online, model = OnlineFeatures(settings), LoadedModel.load(store, active.model)
    bid = BidRequest(
        row["profile_id"],
        row["job_id"],
        bid_text=row["generated_bid_text"],
        amount=row["amount"],
        settings=row["bid_settings_snapshot"],
        external_signals=row["external_signals_snapshot"],
        at=row["submitted_at"],
    )
    features = online.features([bid], embeddings=model.scorer.reads_embeddings).table
    online.close()
    probability, why = model.scorer.predict(features)[0], explain_prediction(model, features)
    table = Table("what moved it most", title_justify="left")
    advice = "bid" if probability >= model.threshold else "do not bid"
    table.title = f"A bid of {bid.profile_id} on {bid.job_id}: {probability:.1%} ({advice})"
    for each in why.contributions[:_REASONS]:
        table.add_row(each.words)
    return table


def _json(store: VersionStore, manifest: Manifest) -> dict[str, Any]:
    return dict(orjson.loads(store.fetch(manifest).read_bytes()))


def _next_steps(active: ActiveModel, seconds: float) -> Panel:
    return Panel(
        f"Done in {seconds:.0f} s. What next:\n\n"
        "  [bold]BID_ASSETS_RETRAIN_MIN_INTERVAL_MINUTES=1 bid-assets up[/bold]\n"
        "                                                  the asset graph in the browser, and predictions over HTTP\n"
        "  [bold]bid-assets marketplace play --speed 7[/bold]         in another terminal: the market goes on, watch the loop "
        "turn\n"
        "  [bold]bid-assets status[/bold]                             in a third: what is active, what waits, what the policy "
        "says\n"
        "  [bold]bid-assets versions trained_model[/bold]             every version, and which one is read\n"
        "  [bold]bid-assets lineage raw_bids --downstream[/bold]      what was made from the newest window\n"
        f"  [bold]bid-assets rebuild trained_model --version {active.model.version}[/bold]\n"
        "  [bold]BID_ASSETS_HOME=OWN bid-assets import DIR[/bold]     your own bids and outcomes, in a home of their own "
        "(docs/tutorials/own_data.md)",
        title="bid_assets",
        expand=False,
    )
