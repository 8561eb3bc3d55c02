from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg2
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bid_assets.embedded_postgres.server import EmbeddedServer
from bid_assets.simulation import live
from bid_assets.simulation.live import NotPlayableError, moments, open_market
from bid_assets.simulation.options import WEEK, MarketplaceOptions
from bid_assets.simulation.simulate import Marketplace, simulate
from bid_assets.simulation.truth import best_possible, read_truth
from bid_assets.simulation.write import MarketInUseError, write
from bid_assets_tests.conftest import CHECKOUT, fresh_databases, settings_for
from bid_assets_tests.simulation.markets import END
from bid_assets_tests.simulation.test_write import TABLES, in_database, query

DAY = timedelta(days=1)


def market_of(weeks: int, weekly: float, *, after: int = 0, seed: int = 7, corruption_share: float = 0.05) -> Marketplace:
    """A market that starts `weeks` before END, with `after` weeks more."""
    count = weeks + after
    return simulate(
        MarketplaceOptions(
            weeks=count, bids=round(count * weekly), seed=seed, end=END + after * WEEK, corruption_share=corruption_share
        )
    )


def assert_stands_as(made: Marketplace, url: str, folder: Path) -> None:
    for name, attribute in TABLES.items():
        table = getattr(made, attribute)
        assert in_database(url, name, table).equals(table.sort_by("id").combine_chunks()), name
    assert read_truth(folder).equals(made.truth)


def play_to(url: str, folder: Path, *ends: datetime) -> None:
    with open_market(url, folder) as living:
        for end in ends:
            living.advance(end)


@settings(max_examples=12)
@given(
    weekly=st.sampled_from((0.5, 3, 60)),
    weeks=st.sampled_from((2, 4)),
    after=st.sampled_from((2, 4)),
    seed=st.integers(0, 99),
    corruption_share=st.sampled_from((0.0, 0.2)),
    runs=st.lists(st.lists(st.floats(0, 1), max_size=4), max_size=3),
)
def test_a_market_played_in_any_steps_is_the_market_created_so_long(
    postgres: EmbeddedServer,
    weekly: float,
    weeks: int,
    after: int,
    seed: int,
    corruption_share: float,
    runs: list[list[float]],
) -> None:
    with fresh_databases(postgres) as new_database, TemporaryDirectory() as name:
        url, folder = new_database(), Path(name)
        write(market_of(weeks, weekly, seed=seed, corruption_share=corruption_share), url, folder)
        shares = sorted(share for run in runs for share in run)
        for run in runs:
            play_to(url, folder, *(END + shares.pop(0) * after * WEEK for _ in run))
        play_to(url, folder, END + after * WEEK)
        assert_stands_as(market_of(weeks, weekly, after=after, seed=seed, corruption_share=corruption_share), url, folder)


KILLED = """
import os, signal, sys
from datetime import datetime
from pathlib import Path
from bid_assets.simulation import live

step, place, url, folder, *ends = sys.argv[1:]
def kill_before(function):
    def wrapper(*arguments, **options):
        global step
        step = int(step) - 1
        if step < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return wrapper

if place == "before the rows":
    live._write = kill_before(live._write)
if place == "before the commit":
    live.execute_values = kill_before(live.execute_values)
if place == "after the commit":
    live.Timeline.drop_before = kill_before(live.Timeline.drop_before)
with live.open_market(url, Path(folder)) as living:
    for end in ends:
        living.advance(datetime.fromisoformat(end))
"""


@pytest.mark.parametrize(
    ("place", "step"), [("before the rows", 1), ("before the commit", 7), ("after the commit", 3), ("after the commit", 5)]
)
def test_a_player_killed_anywhere_loses_and_doubles_nothing(app_db: str, tmp_path: Path, place: str, step: int) -> None:
    write(market_of(4, 200), app_db, tmp_path)
    ends = [str(END + days * DAY) for days in (3, 6.5, 9, 13)]
    killed = subprocess.run([sys.executable, "-c", KILLED, str(step), place, app_db, str(tmp_path), *ends], cwd=CHECKOUT)
    assert killed.returncode == -signal.SIGKILL
    assert query(app_db, "SELECT count(*) > 800 FROM bids") == [(True,)]
    play_to(app_db, tmp_path, END + 10 * DAY)
    play_to(app_db, tmp_path, END + 2 * WEEK)
    assert_stands_as(market_of(4, 200, after=2), app_db, tmp_path)


@pytest.fixture
def played(app_db: str, tmp_path: Path) -> tuple[str, Path]:
    """A small market, as created."""
    write(market_of(4, 200, corruption_share=0.0), app_db, tmp_path)
    return app_db, tmp_path


def test_nothing_appears_before_its_time(played: tuple[str, Path]) -> None:
    url, folder = played
    play_to(url, folder, END + 3.3 * DAY)
    [newest] = query(
        url,
        "SELECT greatest((SELECT max(posted_at) FROM jobs), (SELECT max(submitted_at) FROM bids), "
        "(SELECT max(outcome_timestamp) FROM bid_outcomes), (SELECT max(created_at) FROM profiles), "
        "(SELECT max(updated_at) FROM profiles))",
    )
    assert END + 3 * DAY < newest[0] < END + 3.3 * DAY  # type: ignore[operator]


def test_the_next_player_goes_on_where_the_last_one_ended(played: tuple[str, Path]) -> None:
    url, folder = played
    play_to(url, folder, END + 3.3 * DAY)
    with open_market(url, folder) as living:
        assert END + 3 * DAY < living.at <= END + 3.3 * DAY


def test_a_step_that_fails_leaves_nothing_and_may_be_tried_again(
    played: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = played
    with open_market(url, folder) as living:
        with monkeypatch.context() as patch:
            patch.setattr(live, "_UPDATE_BID_STATUS", "SELECT FROM nowhere WHERE id = ANY(%s)")
            with pytest.raises(psycopg2.errors.UndefinedTable):
                living.advance(END + WEEK)
        assert query(url, "SELECT count(*) FROM bids") == [(800,)]
        living.advance(END + WEEK)
        assert living.row_counts.bids == 200
    assert_stands_as(market_of(4, 200, after=1, corruption_share=0.0), url, folder)


def test_the_truth_knows_every_bid_that_is_there(played: tuple[str, Path]) -> None:
    url, folder = played
    play_to(url, folder, END + 10 * DAY)
    truth = read_truth(folder)
    bids = in_database(url, "bids", market_of(1, 10).bids)["id"]
    labels = truth["is_success"].take(pc.index_in(bids, value_set=truth["bid_id"]))
    assert best_possible(truth, bids, labels)["roc_auc"] > 0.6  # type: ignore[operator]


def test_rows_that_others_add_or_remove_stay_as_they_left_them(played: tuple[str, Path]) -> None:
    url, folder = played
    play_to(url, folder, END + DAY)
    query(url, "INSERT INTO bids (id, submitted_at) VALUES ('mine', now()) RETURNING 1")
    query(url, "DELETE FROM bids WHERE id = 'bid-0000799' RETURNING 1")
    play_to(url, folder, END + WEEK)
    assert query(url, "SELECT count(*), count(*) FILTER (WHERE id = 'mine') FROM bids") == [(1000, 1)]
    assert query(url, "SELECT count(*) FROM bids WHERE id = 'bid-0000799'") == [(0,)]


def test_two_cannot_play_one_market(played: tuple[str, Path]) -> None:
    with open_market(*played), pytest.raises(MarketInUseError, match="another process"), open_market(*played):
        pass


def test_a_market_is_not_replaced_while_it_is_played(played: tuple[str, Path]) -> None:
    with open_market(*played), pytest.raises(MarketInUseError, match="another process"):
        write(market_of(4, 20), *played, replace=True)


def test_a_database_without_a_simulated_market_is_refused(app_db: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="bid-assets marketplace create"), open_market(app_db, tmp_path):
        pass


def test_missing_tables_are_named(played: tuple[str, Path]) -> None:
    query(played[0], "DROP TABLE bid_outcomes; SELECT 1")
    with pytest.raises(NotPlayableError, match="no table bid_outcomes"), open_market(*played):
        pass


@pytest.mark.parametrize("statement", ["TRUNCATE bids", "UPDATE bids SET submitted_at = submitted_at - interval '1 minute'"])
def test_the_tables_of_another_market_are_refused(played: tuple[str, Path], statement: str) -> None:
    query(played[0], f"{statement}; SELECT 1")
    with pytest.raises(NotPlayableError, match="does not hold the simulated market of this folder"), open_market(*played):
        pass


class Clock:
    """Real time that passes only while somebody waits; 10 times as much as asked for at the third time, as after a sleep."""

    def __init__(self, now: datetime, stop_after: int = 10_000) -> None:
        self.time, self.waits, self.stop_after = now, 0, stop_after

    def now(self) -> datetime:
        return self.time

    def wait(self, seconds: float) -> bool:
        self.waits += 1
        self.time += timedelta(seconds=seconds * (10 if self.waits == 3 else 1))
        return self.waits > self.stop_after


def test_the_speed_is_days_of_the_market_in_a_minute() -> None:
    clock = Clock(END + 365 * DAY, stop_after=51)
    *_, (last, is_present) = moments(END, 7, None, clock.wait, clock.now)
    assert last == END + 7 * DAY
    assert not is_present


@given(behind=st.floats(0, 40), speed=st.floats(1e-3, 1e9), sleeps=st.integers(1, 200))
def test_the_market_never_passes_the_present(behind: float, speed: float, sleeps: int) -> None:
    clock = Clock(END + behind * DAY, stop_after=sleeps)
    last = END
    for moment, is_present in moments(END, speed, None, clock.wait, clock.now):
        assert last <= moment <= clock.now()
        assert is_present == (moment == clock.now())
        last = moment


def test_a_market_that_has_caught_up_lives_on_in_real_time() -> None:
    clock = Clock(END + DAY, stop_after=100)
    times = [moment for moment, is_present in moments(END, 7, None, clock.wait, clock.now) if is_present]
    assert len(times) > 80
    assert {later - earlier for earlier, later in zip(times[10:], times[11:], strict=False)} == {timedelta(seconds=1)}


def test_a_clock_that_is_set_back_does_not_set_the_market_back() -> None:
    clock = Clock(END + 20 * DAY)
    times = moments(END, 1e6, None, clock.wait, clock.now)
    first, _ = next(times)
    clock.time -= DAY
    assert next(times) == (first, True)


def test_the_market_stops_at_the_day_that_was_said() -> None:
    clock = Clock(END + 20 * DAY)
    assert [moment for moment, _ in moments(END, 700, END + 15 * DAY, clock.wait, clock.now)][-1] == END + 15 * DAY


def test_a_market_of_the_future_is_refused() -> None:
    clock = Clock(END - DAY)
    with pytest.raises(NotPlayableError, match="2024-07-01 00:00 UTC, which has not come yet"):
        next(moments(END, 7, None, clock.wait, clock.now))


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_speed_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="must be a number above 0"):
        next(moments(END, speed, None, Clock(END).wait, Clock(END).now))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bid_assets.cli", "marketplace", "play", *arguments]


@pytest.fixture
def home(new_database: Callable[[], str], tmp_path: Path) -> Iterator[str]:
    """Settings in the environment, with a market of four weeks that ends at END; the database's URL."""
    with settings_for(tmp_path, new_database(), new_database()) as made:
        assert made.app_db_url
        write(market_of(4, 200, corruption_share=0.0), made.app_db_url, made.home / "marketplace")
        yield made.app_db_url


def test_the_command_plays_until_the_day_and_sums_up(home: str) -> None:
    done = subprocess.run(command("--speed", "10000", "--until", "2024-07-08"), capture_output=True, text=True, check=True)
    assert "to Mon 2024-07-08 00:00: " in done.stdout
    assert "200 bids" in done.stdout
    assert query(home, "SELECT count(*) FROM bids") == [(1000,)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_command_between_two_steps_with_a_summary(home: str, number: signal.Signals) -> None:
    playing = subprocess.Popen(command("--speed", "100"), stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while query(home, "SELECT count(*) FROM bids") == [(800,)] and time.monotonic() < deadline:
        time.sleep(0.1)
    playing.send_signal(number)
    out, _ = playing.communicate(timeout=20)
    assert playing.returncode == 0
    [(bids,)] = query(home, "SELECT count(*) FROM bids")
    assert isinstance(bids, int)
    assert f"{bids - 800} bids" in out.rpartition("Played from")[2]


def test_the_command_refuses_a_bad_speed_in_one_line(home: str) -> None:
    refused = subprocess.run(command("--speed", "0"), capture_output=True, text=True)
    assert refused.returncode == 1
    assert "speed: 0 days a minute" in refused.stderr
