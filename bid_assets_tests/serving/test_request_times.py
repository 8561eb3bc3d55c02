"""The service reads the times that `bid-assets import` reads, and as the same moments."""

from __future__ import annotations

from datetime import date, datetime

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bid_assets.app_db.contract import TEXT, TIME
from bid_assets.app_db.importing.parsing import parse_column
from bid_assets.serving.bid_requests import parse_timestamp

DATES = st.builds("{:%Y-%m-%d}".format, st.dates(date(1700, 1, 1))) | st.sampled_from(["20240531", "2024-02-30"])
TIMES = st.sampled_from(["12", "12:05", "1205", "12:05:59", "120559", "12:60", "24:00", "23:59:60", "12:05:59,5"])
FRACTIONS = st.builds(".{}".format, st.integers(0, 10**9))
ZONES = st.sampled_from(["", "Z", "z", "+01", "+0100", "+01:00", "-23:59", "+24:00", "+15:61", " +0100", "UTC", " UTC"])
MOMENTS = st.builds("{}{}{}{}{}".format, DATES, st.sampled_from(["T", " ", "t", "_"]), TIMES, st.just("") | FRACTIONS, ZONES)


def imported(text: str) -> datetime | None:
    moment: datetime | None = parse_column(pa.chunked_array([pa.array([text], TEXT)]), TIME)[0].as_py()
    return moment


def asked(text: str) -> datetime | None:
    try:
        return parse_timestamp(text)
    except ValueError:
        return None


@settings(max_examples=400, deadline=None)
@given(DATES | MOMENTS)
@example("now")
@example("2024")
@example("1717156800")
@example("2024-W22-5")
@example(" 2024-05-31T12:00:00Z ")
@example("2000-01-01T12:05:59+15:61")
def test_a_time_is_read_as_import_reads_it(text: str) -> None:
    assert asked(text) == imported(text)


@pytest.mark.parametrize("value", [1717156800, 5.5, True, ["2024-05-31"], "\ud800"])
def test_what_is_no_text_is_no_time(value: object) -> None:
    with pytest.raises(ValueError, match="must be a time"):
        parse_timestamp(value)
