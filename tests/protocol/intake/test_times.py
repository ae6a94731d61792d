"""Times are read or refused."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs05bench.errors import DataError
from rs05bench.protocol import UnitTable
from rs05bench.protocol.intake.times import read_times

DAYS = st.dates(dt.date(1985, 1, 1), dt.date(2100, 12, 31))


@given(DAYS)
def test_a_day_is_itself_however_it_is_written(day):
    since = (dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC) - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(
        milliseconds=1
    )
    spelled = [day.isoformat(), f"{day:%Y/%m/%d}", f"{day:%Y%m%d}", f"{day:%Y%j}", f"{day.isoformat()}T06:30:00Z", int(f"{day:%Y%m%d}")]
    times = read_times(pd.Series([*spelled, str(since) if since >= 10**12 else day.isoformat()], dtype=object), "when", source="t")
    assert set(times.first.dt.date) == {day}
    assert {str(last) for last in times.last} == {day.isoformat()}


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        (2018, "2018-01-01", "2018-12-31"),
        (2018.0, "2018-01-01", "2018-12-31"),
        ("2018-02", "2018-02-01", "2018-02-28"),
        (1514764800000, "2018-01-01", "2018-01-01"),
        (1514764800, "2018-01-01", "2018-01-01"),
        (504921600000, "1986-01-01", "1986-01-01"),
        ("2018-07-04T23:30:00-05:00", "2018-07-05", "2018-07-05"),
    ],
)
def test_what_a_value_means(value, first, last):
    times = read_times(pd.Series([value]), "when", source="t")
    assert (str(times.first[0].date()), str(times.last[0])) == (first, last)


@pytest.mark.parametrize("year", [18, 0, -9999, 43285, 2018.5, "2018/19"])
def test_a_year_that_is_none_is_refused(year):
    frame = pd.DataFrame({"unit_id": ["a", "b"], "year": [2018, year]})
    with pytest.raises(DataError, match=rf"year is not a whole number from 1800 to 2200 in 1 rows, e.g. '?{year}"):
        UnitTable.build(frame, source="t")


def test_blanks_are_missing():
    assert read_times(pd.Series(["2018-01-01", "", None]), "when", source="t").first.isna().tolist() == [False, True, True]


@pytest.mark.parametrize("value", ["03/04/2018", "3.4.2018", "03-04-18"])
def test_a_date_with_its_year_last_is_refused_with_both_readings(value):
    with pytest.raises(DataError, match=r"may be 2018-04-03 or 2018-03-04"):
        read_times(pd.Series([value]), "when", source="t")


@pytest.mark.parametrize("value", ["last summer", 43285, "2018-13-01", 20181340, "0000", "2018.5", 2018.5, "2018.05"])
def test_what_is_no_time_is_refused_with_its_row(value):
    with pytest.raises(DataError, match=r"column 'when' holds times that cannot be read.* at row 2"):
        read_times(pd.Series(["2018-01-01", value], dtype=object), "when", source="t")
