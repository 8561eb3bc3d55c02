"""The main job, whole: a market in a real PostgreSQL, runs through a real Dagster instance, and what the store then says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner

from bid_assets.cli import main
from bid_assets.common.windows import Cadence, as_utc, utc_now
from bid_assets.deployments.events import active_model
from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.orchestration.assets import dataset as dataset_assets
from bid_assets.orchestration.assets.data_checks import QUALITY_CHECKS, declared_changes, rejected_rows
from bid_assets.orchestration.instance import open_instance
from bid_assets.settings import get_settings
from bid_assets.version_store.parquet import WindowedTable
from bid_assets_tests.conftest import CHECKOUT
from bid_assets_tests.platforms import (
    EMBEDDINGS,
    FAMILIES,
    LOOKBACK,
    RAW,
    RETRAINING_ASSETS,
    WEEKS,
    Platform,
    call,
    call_json,
    execute,
    make,
    small_platform,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def platform(postgres: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory, static_encoder: Path) -> Iterator[Platform]:
    """A market of eight weeks, and the main job run over it."""
    with small_platform(postgres, tmp_path_factory.mktemp("platform"), static_encoder) as made:
        yield made


def test_every_asset_has_a_version_of_every_window_that_was_run(platform: Platform) -> None:
    windows = platform.first_run["windows"]
    assert len(windows) == WEEKS
    for asset in (*RAW, *FAMILIES, *EMBEDDINGS):
        assert set(windows) <= set(platform.store.partitions(asset)), asset
    for asset in RETRAINING_ASSETS:
        assert platform.store.partitions(asset) == [windows[-1]], asset


def test_the_model_is_active_and_better_than_its_baselines(platform: Platform) -> None:
    active = active_model(platform.store)
    assert active is not None
    assert active.model.version == platform.head("trained_model").version
    report = json.loads(platform.store.fetch(platform.head("metrics_report")).read_bytes())
    baselines = report["baselines"]
    assert (
        report["model_metrics"]["roc_auc"]
        > baselines["history_logistic_regression"]["roc_auc"]
        > baselines["base_rate"]["roc_auc"]
    )


def test_embeddings_are_in_the_dataset_and_read_by_no_step_whose_model_does_without(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, plain = [], WindowedTable.read

    def noting(table: WindowedTable, columns: Any = None, **filters: Any) -> pa.Table:
        rows = plain(table, columns, **filters)
        if table.asset == "training_dataset":
            read.append(rows.schema)
        return rows

    monkeypatch.setattr(WindowedTable, "read", noting)
    steps = ["trained_model", "feature_importances", "metrics_report"]
    outcome = make(platform, steps, platform.window)
    assert (outcome.succeeded, outcome.skipped) == (True, ())
    assert len(read) >= len(steps)
    stored = {field["name"] for field in platform.head("training_dataset").schema or ()}
    assert stored >= {"job_description_embedding", "bid_text_embedding"}
    for schema in read:
        assert not {"job_description_embedding", "bid_text_embedding"} & set(schema.names)
    assert {"profile_id", "success_rate_90d", "target_is_success"} <= {name for schema in read for name in schema.names}
    assert platform.head("trained_model").info["encoder_fingerprint"] == "none"


def test_running_again_makes_no_new_version_and_keeps_the_active_model(platform: Platform) -> None:
    before, active = platform.versions(), active_model(platform.store)
    again = call_json("run")
    assert again["windows"] == platform.first_run["windows"] == platform.first_run["refreshed"]
    assert again["refreshed"] == []
    assert platform.versions() == before
    assert active_model(platform.store) == active


def test_the_dataset_is_split_by_time_and_train_was_known_before_the_holdout_begins(platform: Platform) -> None:
    dataset = platform.rows("training_dataset")
    train, holdout = (dataset.filter(pc.equal(dataset["split"], name)) for name in ("train", "holdout"))
    assert train.num_rows > holdout.num_rows > 0
    assert pc.max(train["outcome_timestamp"]).as_py() < pc.min(holdout["submitted_at"]).as_py()
    assert pc.max(dataset["outcome_timestamp"]).as_py() < platform.head("training_dataset").cutoff


def test_the_cutoff_is_the_end_of_a_closed_window_and_the_present_of_an_open_one(platform: Platform) -> None:
    closed = platform.head("training_dataset")
    assert closed.cutoff == Cadence.WEEKLY.window(platform.window).end
    now = utc_now()
    open_window = Cadence.WEEKLY.key(now)
    call("run", "--from", open_window, "--to", open_window)
    cutoff = platform.head("training_dataset", open_window).cutoff
    assert cutoff is not None
    assert now <= cutoff <= utc_now()


def test_the_dataset_looks_back_over_its_windows_and_says_which(platform: Platform) -> None:
    manifest = platform.head("training_dataset")
    bids = [ref.partition for ref in manifest.inputs if ref.asset == "raw_bids"]
    assert bids == platform.first_run["windows"][-LOOKBACK:]
    assert manifest.info["windows_expected"] == manifest.info["windows_found"] == bids


def test_the_lineage_of_the_model_reaches_raw_windows_and_the_commit(platform: Platform) -> None:
    tree = call_json("lineage", "trained_model", "--partition", platform.window)
    seen: dict[str, set[str]] = {}

    def walk(node: dict[str, Any]) -> None:
        seen.setdefault(node["asset"], set()).add(node["partition"])
        assert "git_commit" in node["code"]
        for child in node["inputs"]:
            walk(child)

    walk(tree)
    assert {"training_dataset", *FAMILIES, *EMBEDDINGS, "raw_bids", "raw_jobs", "raw_profiles", "raw_bid_outcomes"} < set(seen)
    assert seen["raw_bids"] > set(platform.first_run["windows"][-LOOKBACK:])  # history looks back further
    assert "training_dataset" in call("lineage", "trained_model").stdout


def test_a_raw_window_leads_downstream_to_the_model(platform: Platform) -> None:
    below = call_json("lineage", "raw_bids", "--partition", platform.window, "--downstream")
    assert {*FAMILIES, *RETRAINING_ASSETS} <= {manifest["asset"] for manifest in below}


def test_a_profile_and_a_bid_lead_to_the_datasets_and_models_that_contain_them(platform: Platform) -> None:
    row = platform.rows("training_dataset").slice(0, 1).to_pylist()[0]
    for option, value in (("--profile", row["profile_id"]), ("--bid", row["bid_id"])):
        assert {"training_dataset", "trained_model"} <= {m["asset"] for m in call_json("lineage", option, value)}


def test_a_profile_or_bid_that_is_unknown_or_has_taught_nothing_is_said_to_be_so(platform: Platform) -> None:
    for option in ("--profile", "--bid"):
        assert (
            "nobody is unknown: no bid that was read into the store has this id"
            in call("lineage", option, "nobody", fails=1).stderr
        )
    learned = set(platform.rows("training_dataset")["bid_id"].to_pylist())
    [waiting, *_] = [bid for bid in platform.rows("raw_bids")["id"].to_pylist() if bid not in learned]
    said = call("lineage", "--bid", waiting)
    assert "is known: it has bids in 1 window(s)" in said.stderr
    assert f"Learned from bid {waiting}: nothing" in said.stdout


def test_versions_are_listed_as_manifests(platform: Platform) -> None:
    [manifest] = call_json("versions", "training_dataset", "--partition", platform.window)
    head = platform.head("training_dataset")
    assert (manifest["version"], manifest["content_hash"], manifest["rows"]) == (head.version, head.content_hash, head.rows)
    assert len(manifest["inputs"]) == len(head.inputs)
    assert platform.window in call("versions", "raw_bids").stdout


@pytest.mark.parametrize("asset", ["profile_historical_features", "training_dataset", "trained_model", "metrics_report"])
def test_a_version_is_rebuilt_from_its_pinned_inputs_with_the_same_content(platform: Platform, asset: str) -> None:
    before = platform.versions()
    head = platform.head(asset)
    answer = call_json("rebuild", asset, "--partition", head.partition, "--version", head.version)
    assert answer["same"] is True
    assert platform.versions() == before


def test_a_raw_version_cannot_be_rebuilt_and_says_why(platform: Platform) -> None:
    head = platform.head("raw_bids")
    failed = call("rebuild", "raw_bids", "--partition", head.partition, "--version", head.version, fails=1)
    assert "raw versions cannot be rebuilt" in failed.stderr


def test_a_window_alone_has_the_content_that_it_has_in_a_range(platform: Platform) -> None:
    before = platform.versions()
    window = platform.first_run["windows"][3]
    assert make(platform, [*RAW, *FAMILIES, *EMBEDDINGS], window).succeeded
    assert platform.versions() == before


def test_rejected_rows_are_kept_counted_and_shown_by_a_check(platform: Platform) -> None:
    rejected = {window: platform.rows("rejected_rows", window).num_rows for window in platform.first_run["windows"]}
    window = max(rejected, key=lambda key: rejected[key])
    assert rejected[window] > 0
    assert platform.rows("rejected_rows", window).column_names == ["window", "table", "id", "reason"]
    assert make(platform, list(RAW), window).succeeded
    with open_instance() as instance:
        key = dg.AssetCheckKey(dg.AssetKey("rejected_rows"), "rows_keep_the_contract")
        [record] = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.event is not None
    evaluation = record.event.asset_check_evaluation
    assert evaluation is not None
    assert (evaluation.passed, evaluation.metadata["rejected_rows"].value) == (False, rejected[window])


def test_rows_without_a_time_do_not_count_against_the_window_that_they_lie_in(platform: Platform) -> None:
    before = rejected_rows(platform.store, [platform.window])
    assert platform.settings.app_db_url is not None
    execute(
        platform.settings.app_db_url,
        "insert into bids (id, profile_id, job_id) select 'undated', profile_id, job_id from bids order by id limit 1",
    )
    rows = platform.head("rejected_rows").rows or 0
    assert make(platform, list(RAW), platform.window).succeeded
    assert platform.head("rejected_rows").rows == rows + 1
    assert rejected_rows(platform.store, [platform.window]) == before


def test_plots_and_metrics_are_shown_on_the_pages_of_the_assets(platform: Platform) -> None:
    with open_instance() as instance:
        shown = {
            asset: record.asset_materialization.metadata
            for asset in ("metrics_report", "feature_importances", "deployment")
            if (record := instance.fetch_materializations(dg.AssetKey(asset), limit=1).records[0]).asset_materialization
        }
    assert {"roc_auc", "log_loss", "calibration_error", "roc_curve", "calibration_curve"} <= set(shown["metrics_report"])
    assert "data:image/svg+xml;base64" in str(shown["feature_importances"]["importances"].value)
    assert {"activated", "reason", "rules"} <= set(shown["deployment"])


def test_a_backtest_gives_mean_and_spread_over_seeds(platform: Platform) -> None:
    cutoff = Cadence.WEEKLY.window(platform.first_run["windows"][-2]).start
    result = call_json("backtest", "--cutoff", f"{cutoff:%Y-%m-%d}", "--seeds", "2")
    for metric in ("roc_auc", "average_precision_rarer", "log_loss", "calibration_error"):
        assert set(result[metric]) == {"mean", "std"}
    assert result["train_rows"] > result["test_rows"] > 0
    assert result["roc_auc"]["mean"] > 0.6


def test_a_backtest_takes_several_cutoffs_and_an_end(platform: Platform) -> None:
    first, second, end = (
        f"{Cadence.WEEKLY.window(platform.first_run['windows'][number]).start:%Y-%m-%d}" for number in (-3, -2, -1)
    )
    found = call_json("backtest", "--cutoff", second, "--cutoff", first, "--end", end, "--seeds", "1")
    assert [result["cutoff"][:10] for result in found["cutoffs"]] == [first, second]
    assert all(result["test_until"][:10] < end for result in found["cutoffs"])
    assert found["cutoffs"][0]["test_rows"] > found["cutoffs"][1]["test_rows"]
    losses = [result["log_loss"]["mean"] for result in found["cutoffs"]]
    assert min(losses) < found["mean"]["log_loss"] < max(losses)
    assert "is not after --cutoff" in call("backtest", "--cutoff", second, "--end", first, fails=1).stderr


def test_a_model_whose_file_was_changed_cannot_be_deployed(platform: Platform) -> None:
    file = platform.store.fetch(platform.head("trained_model"))
    content = file.read_bytes()
    try:
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        outcome = make(platform, ["deployment"], platform.window)
        assert not outcome.succeeded
        assert file.name in outcome.failures[0]
    finally:
        file.write_bytes(content)


def test_a_dataset_over_missing_windows_is_refused_unless_they_are_allowed_by_name(platform: Platform) -> None:
    window = platform.first_run["windows"][2]
    missing = [
        Cadence.WEEKLY.key(Cadence.WEEKLY.window(window).start - timedelta(weeks=back)) for back in range(LOOKBACK - 1, 2, -1)
    ]
    start = Cadence.WEEKLY.window(missing[0]).start.date()  # before the oldest bid: a look-back goes on beyond it
    platform = replace(platform, settings=platform.settings.model_copy(update={"start": start}))
    refused = make(platform, ["training_dataset"], window)
    assert f"--from {missing[0]} --to {missing[-1]}" in refused.failures[0]
    allowed = make(platform, ["training_dataset"], window, training_dataset={"allow_missing_windows": missing})
    assert allowed.succeeded
    assert platform.head("training_dataset", window).info["windows_found"] == platform.first_run["windows"][:3]


def test_too_few_outcomes_make_a_dataset_but_no_model_and_say_why(platform: Platform) -> None:
    window = platform.first_run["windows"][0]
    result = call_json("run", "--from", window, "--to", window)
    [decision] = result["cutoff_windows"]
    assert result["failures"] == []
    assert decision["activated"] is False
    assert "200" in decision["reason"]
    assert set(decision["versions"]) == {"training_dataset"}


def test_an_older_window_never_takes_over_from_a_newer_one(platform: Platform) -> None:
    active = active_model(platform.store)
    older = platform.first_run["windows"][-2]
    [decision] = call_json("run", "--from", older, "--to", older)["cutoff_windows"]
    assert decision["activated"] is False
    assert "later window" in decision["reason"]
    assert active_model(platform.store) == active


def test_a_late_outcome_changes_labels_and_no_feature_of_a_past_bid(platform: Platform) -> None:
    dataset = platform.rows("training_dataset")
    bids = platform.rows("raw_bids")
    undecided = bids.filter(pc.invert(pc.is_in(bids["id"], value_set=dataset["bid_id"]))).to_pylist()[0]
    when = Cadence.WEEKLY.window(platform.window).end - timedelta(seconds=1)
    assert platform.settings.app_db_url is not None
    features = {asset: platform.head(asset) for asset in (*FAMILIES, *EMBEDDINGS)}
    execute(
        platform.settings.app_db_url,
        "insert into bid_outcomes (id, bid_id, is_success, outcome_timestamp) "
        f"values ('late', '{undecided['id']}', true, '{when.isoformat()}')",
    )
    call("run", "--from", platform.window, "--to", platform.window)
    rebuilt = platform.rows("training_dataset")
    assert set(rebuilt["bid_id"].to_pylist()) - set(dataset["bid_id"].to_pylist()) == {undecided["id"]}
    for asset, before in features.items():
        assert platform.head(asset).content_hash == before.content_hash, asset
    names = [field["name"] for field in features["profile_historical_features"].schema or ()][2:]
    old = rebuilt.filter(pc.is_in(rebuilt["bid_id"], value_set=dataset["bid_id"]))
    assert old.select(["bid_id", *names]).equals(dataset.select(["bid_id", *names]))


def test_an_error_is_one_line_and_a_traceback_only_on_request(platform: Platform) -> None:
    failed = call("versions", "nonsense", fails=1)
    assert failed.stderr.count("\n") == 1
    assert "the store holds no versions of 'nonsense'" in failed.stderr
    assert isinstance(CliRunner().invoke(main, ["--debug", "versions", "nonsense"]).exception, ValueError)
    assert call("run", "--cutoff-windows", "some", fails=1).stderr.startswith("error: --cutoff-windows takes last, all")


def test_an_encoder_that_there_is_not_is_named_with_what_to_do(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BID_ASSETS_ENCODER", "/nowhere/model")
    get_settings.cache_clear()
    told = call("run", "--from", platform.window, "--to", platform.window, fails=3).stderr
    monkeypatch.undo()
    get_settings.cache_clear()
    assert "names the folder /nowhere/model, and there is none" in " ".join(told.split())


def test_times_in_the_json_of_a_run_carry_their_zone(platform: Platform) -> None:
    assert as_utc(datetime.fromisoformat(platform.first_run["active_model"]["since"])) <= utc_now()


def test_a_dataset_waits_for_features_made_from_the_raw_versions_of_now(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset_assets, "CONSISTENCY_TIMEOUT_SECONDS", 0.0)
    before = platform.head("training_dataset")
    outcome_of_an_undecided_bid(platform, "between")
    assert make(platform, list(RAW), platform.window).succeeded
    refused = make(platform, ["training_dataset"], platform.window)
    assert (
        f"profile_historical_features of {platform.window} to {platform.window} were made from other versions"
        in refused.failures[0]
    )
    assert f"bid-assets run --from {platform.window} --to {platform.window}" in refused.failures[0]
    assert platform.head("training_dataset") == before

    def refresh_while_it_waits(seconds: float) -> None:
        assert make(platform, [*FAMILIES, *EMBEDDINGS], platform.window).succeeded

    monkeypatch.setattr(dataset_assets, "CONSISTENCY_TIMEOUT_SECONDS", 600.0)
    monkeypatch.setattr(dataset_assets, "sleep", refresh_while_it_waits)
    assert make(platform, ["training_dataset"], platform.window).succeeded  # in the same step, without a retry
    after = platform.head("training_dataset")
    assert after.rows == (before.rows or 0) + 1
    history = platform.head("profile_historical_features")
    assert {ref for ref in after.inputs if ref.asset == history.asset and ref.partition == platform.window} == {history.ref}


def test_a_dataset_that_fails_a_check_is_not_written_unless_somebody_accepts_it(platform: Platform) -> None:
    before, active = platform.head("training_dataset"), active_model(platform.store)
    assert platform.settings.app_db_url is not None
    execute(platform.settings.app_db_url, "update bid_outcomes set is_success = true")
    [decision] = json.loads(call("run", "--json", fails=3).stdout)["cutoff_windows"]
    assert decision["activated"] is False
    assert "label_rate_as_before: 100.0% of the labels are successes" in decision["reason"]
    assert platform.head("training_dataset") == before
    assert active_model(platform.store) == active
    [check] = [each for each in latest_checks() if each.check_name == "label_rate_as_before"]
    assert not check.passed
    assert 'accept: ["label_rate_as_before"]' in str(check.description)
    [command] = re.findall(r"`bid-assets (run --accept [^`]+)`", decision["reason"])
    call(*command.split())
    assert platform.head("training_dataset").info["label_rate"] == 1.0


FEWER_FAMILIES = """
from bid_assets.features import registry
registry.FAMILY_MODULES = registry.FAMILY_MODULES[:-1]
from bid_assets.cli import main
main(["run", "--json", "--accept", "label_rate_as_before"])  # a test before this one has turned labels round
"""


def test_a_family_that_the_code_adds_or_removes_stops_no_dataset(platform: Platform) -> None:
    run = subprocess.run([sys.executable, "-c", FEWER_FAMILIES], capture_output=True, text=True, cwd=CHECKOUT)
    assert run.returncode == 0, run.stderr
    [check] = [each for each in latest_checks() if each.check_name == "schema_as_before"]
    assert check.passed
    assert str(check.description).startswith("as declared (word_features is a family no more): gone: ")
    accepted = {"accept": ["label_rate_as_before"]}
    assert make(platform, ["training_dataset"], platform.window, training_dataset=accepted).succeeded
    [check] = [each for each in latest_checks() if each.check_name == "schema_as_before"]
    assert str(check.description).startswith("as declared (word_features is a new family): new: ")


def test_another_encoder_is_a_declared_change_of_the_families_that_need_one(platform: Platform) -> None:
    dataset = platform.head("training_dataset")
    assert declared_changes(platform.store, dataset, dataset.info["encoder_fingerprint"]) == {}
    assert set(declared_changes(platform.store, dataset, "another")) == set(EMBEDDINGS)


def test_accepting_a_check_that_there_is_not_is_an_error_that_names_the_checks(platform: Platform) -> None:
    failed = make(platform, ["training_dataset"], platform.window, training_dataset={"accept": ["everything"]})
    assert "accept names no check: everything; the checks are rejected_rows_within_limit" in failed.failures[0]


def latest_checks() -> list[dg.AssetCheckEvaluation]:
    keys = [dg.AssetCheckKey(dg.AssetKey("training_dataset"), name) for name in QUALITY_CHECKS]
    with open_instance() as instance:
        histories = [instance.event_log_storage.get_asset_check_execution_history(key, limit=1) for key in keys]
    events = [record.event.asset_check_evaluation for history in histories for record in history if record.event is not None]
    return [event for event in events if event is not None]


def outcome_of_an_undecided_bid(platform: Platform, name: str) -> None:
    """One more outcome in the last second of the first run's window."""
    assert platform.settings.app_db_url is not None
    when = Cadence.WEEKLY.window(platform.window).end - timedelta(seconds=1)
    execute(
        platform.settings.app_db_url,
        "insert into bid_outcomes (id, bid_id, is_success, outcome_timestamp) "
        f"select '{name}', b.id, true, '{when.isoformat()}' from bids b join profiles p on p.id = b.profile_id "
        "where b.submitted_at >= now() - interval '30 days' and b.amount > 0 "
        "and not exists (select from bid_outcomes o where o.bid_id = b.id) order by b.id limit 1",
    )
