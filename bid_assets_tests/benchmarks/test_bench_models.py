"""The comparison with peers, on a market of some hundred bids; and the real data sets are read, where they are."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from bid_assets.settings import Settings
from bid_assets_tests.benchmarks.bench_models.__main__ import run_all
from bid_assets_tests.benchmarks.bench_models.comparison import CONSTANT, OURS, CutoffResult
from bid_assets_tests.benchmarks.bench_models.data_sets import DataSet, data_sets, market
from bid_assets_tests.benchmarks.bench_models.peer_process import PeerProcess
from bid_assets_tests.benchmarks.bench_models.peers import PEERS
from bid_assets_tests.benchmarks.rating_age import print_ages
from bid_assets_tests.conftest import CHECKOUT

SHARED = CHECKOUT.parent / "shared" / "data"
PYTHON = CHECKOUT / ".venv-bench" / "bin" / "python"
SETTINGS = Settings(encoder="static")

needs_peers = pytest.mark.skipif(not PYTHON.exists(), reason="no .venv-bench here; `make .venv-bench/.installed` makes it")


@pytest.fixture(scope="module")
def tiny_market() -> DataSet:
    return market("tiny", "A tiny market.", weeks=14, bids=900, seed=7, cutoff_weeks=(8, 10), ahead=3, change=None)


@pytest.fixture(scope="module")
def run(tiny_market: DataSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[CutoffResult], str]:
    """The results without peers, and the page."""
    folder = tmp_path_factory.mktemp("bench_models")
    sets = {"absent": data_sets(folder)["gsoc_pulls"], "tiny": lambda: tiny_market}
    path = folder / "results" / "current.md"
    return run_all(sets, SETTINGS, None, None, path, "make bench-models")["tiny"], path.read_text()


def test_every_cutoff_is_on_the_page_and_what_was_not_run_too(
    run: tuple[list[CutoffResult], str], tiny_market: DataSet
) -> None:
    results, page = run
    assert [result.cutoff for result in results] == [period.cutoff for period in tiny_market.periods]
    for result in results:
        assert f"| {result.cutoff:%Y-%m-%d} | {result.train_rows:,} ({result.train_label_rate:.1%})" in page
        assert f"**{result.metrics[OURS]['log_loss']:.4f}**" in page
    assert "no `--peers` was given" in page
    assert "Better than our model in mean log loss: " in page
    assert re.search(r"Not run\*\*: `absent`: .*gsoc_pulls", page)
    assert re.search(r"commit [0-9a-f]{8}", page)


def test_the_constant_is_the_share_of_successes_in_training(run: tuple[list[CutoffResult], str]) -> None:
    for result in run[0]:
        rate, successes = result.train_label_rate, result.test_label_rate
        expected = -(successes * np.log(rate) + (1 - successes) * np.log(1 - rate))
        assert result.metrics[CONSTANT]["log_loss"] == pytest.approx(expected)
        difference = result.differences[CONSTANT]["log_loss"]["difference"]
        assert difference == pytest.approx(result.metrics[OURS]["log_loss"] - expected)


def test_a_cutoff_without_enough_to_learn_from_is_on_the_page_with_the_reason(tiny_market: DataSet, tmp_path: Path) -> None:
    first = tiny_market.periods[0]
    empty = replace(first, cutoff=first.cutoff - timedelta(weeks=7), end=None)
    sets, page = {"tiny": lambda: replace(tiny_market, periods=(empty, first))}, tmp_path / "page.md"
    results = run_all(sets, SETTINGS, None, None, page, "")["tiny"]
    assert [result.cutoff for result in results] == [first.cutoff]
    assert re.search(rf"Not run\*\*: `tiny` at {empty.cutoff:%Y-%m-%d}: .*labelled bids", page.read_text())


@needs_peers
def test_peers_are_evaluated_on_the_same_rows_and_not_fitted_again_for_the_same(tiny_market: DataSet, tmp_path: Path) -> None:
    one_cutoff = replace(tiny_market, periods=tiny_market.periods[:1])
    sets, page = {"tiny": lambda: one_cutoff}, tmp_path / "page.md"
    results = run_all(sets, SETTINGS, None, PeerProcess(PYTHON, tmp_path / "cache"), page, "make bench-models")["tiny"]
    assert all(set(result.metrics) == {OURS, CONSTANT, *PEERS} for result in results)
    assert all(f"| {name} |" in page.read_text() for name in PEERS)
    again = PeerProcess(tmp_path / "no-such-python", tmp_path / "cache")
    assert [each.metrics for each in run_all(sets, SETTINGS, None, again, page, "")["tiny"]] == [
        each.metrics for each in results
    ]


def test_peers_that_fail_say_why(tiny_market: DataSet, tmp_path: Path) -> None:
    without_libraries = PeerProcess(Path(sys.executable), tmp_path / "cache")
    with pytest.raises(RuntimeError, match="No module named 'lightgbm'"):
        run_all({"tiny": lambda: tiny_market}, SETTINGS, None, without_libraries, tmp_path / "page.md", "")


def test_the_benchmark_of_ages_prints_its_line(tiny_market: DataSet, capsys: pytest.CaptureFixture[str]) -> None:
    print_ages(tiny_market, SETTINGS)
    name, age, cutoffs, *each_way = capsys.readouterr().out.strip().split("\t")
    assert (name, age, cutoffs) == ("tiny", "from week 0", str(len(tiny_market.periods)))
    assert all(re.fullmatch(r"\d\.\d{4} \(\d\.\d{4}\)", each) for each in each_way)
    assert len(each_way) == 3


@pytest.mark.real_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data sets are not beside this checkout")
@pytest.mark.parametrize(("name", "bids", "outcomes"), [("gsoc_pulls", 17_209, 16_303), ("catalyst_proposals", 11_131, 11_131)])
def test_a_real_data_set_is_read_whole(name: str, bids: int, outcomes: int) -> None:
    data = data_sets(SHARED)[name]()
    assert (data.raw["raw_bids"].num_rows, data.raw["raw_bid_outcomes"].num_rows) == (bids, outcomes)
    assert data.raw["raw_jobs"]["client_id"].null_count == 0
    assert len(data.periods) >= 5
