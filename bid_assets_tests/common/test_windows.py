from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bid_assets.common.windows import Cadence, TimeRange, as_utc, batch_windows

moments = st.datetimes(datetime(2000, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
cadences = st.sampled_from(Cadence)


@given(moments, cadences)
def test_every_moment_lies_in_exactly_the_window_that_its_key_names(moment: datetime, cadence: Cadence) -> None:
    window = cadence.window(cadence.key(moment))
    assert moment in window
    assert window.end - window.start == cadence.length


@given(moments, moments, cadences)
def test_the_keys_of_a_range_follow_each_other_and_cover_it(one: datetime, other: datetime, cadence: Cadence) -> None:
    span = TimeRange(min(one, other), max(one, other) + timedelta(seconds=1))
    span = TimeRange(span.start, min(span.end, span.start + timedelta(days=400)))
    windows = [cadence.window(key) for key in cadence.keys(span)]
    assert windows[0].start <= span.start
    assert windows[-1].end >= span.end
    assert all(earlier.end == later.start for earlier, later in zip(windows, windows[1:], strict=False))


def test_weeks_start_on_monday() -> None:
    assert Cadence.WEEKLY.key(datetime(2026, 11, 22, 23, 59, tzinfo=UTC)) == "2026-11-16"
    assert Cadence.WEEKLY.key(datetime(2026, 11, 23, tzinfo=UTC)) == "2026-11-23"


def test_a_key_that_starts_no_window_is_refused_with_the_one_that_holds_it() -> None:
    with pytest.raises(ValueError, match="2026-11-16"):
        Cadence.WEEKLY.window("2026-11-18")


def test_a_naive_time_is_taken_to_be_utc() -> None:
    assert as_utc(datetime(2026, 1, 1)) == datetime(2026, 1, 1, tzinfo=UTC)  # noqa: DTZ001


def test_a_range_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        TimeRange(datetime(2026, 1, 1), datetime(2026, 1, 2))  # noqa: DTZ001


@given(st.lists(st.integers(0, 50)), st.integers(1, 100))
def test_batches_are_all_windows_in_order_and_no_batch_but_the_last_is_small(rows: list[int], rows_at_once: int) -> None:
    keys = [str(number) for number in range(len(rows))]
    batches = list(batch_windows(keys, rows, rows_at_once))
    assert [key for batch, _ in batches for key in batch] == keys
    assert [size for _, size in batches] == [sum(rows[int(key)] for key in batch) for batch, _ in batches]
    assert all(size >= rows_at_once > size - rows[int(batch[-1])] for batch, size in batches[:-1])
