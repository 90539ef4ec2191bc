"""Documents that nobody thought of, in any pieces and with frames at any time."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, seed, settings
from hypothesis import strategies as st

from tests.support.markdown import check_streamed, uses_links_early
from tests.support.markdown_strategies import DOCUMENTS, SIZES, arrivals

slow_to_draw = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
quick = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=slow_to_draw)
thorough = settings(max_examples=100, deadline=None, suppress_health_check=slow_to_draw)


def check(data: st.DataObject, text: str, size: tuple[int, int]) -> None:
    assume(not uses_links_early(text))
    pieces, frames = data.draw(arrivals(text))
    check_streamed(text, *size, pieces, itertools.cycle(frames))


def check_many(texts: st.SearchStrategy[str], part: int) -> None:
    @seed(part)
    @thorough
    @given(st.data(), texts, SIZES)
    def run(data: Any, text: str, size: tuple[int, int]) -> None:
        check(data, text, size)

    run()


@quick
@given(st.data(), DOCUMENTS, SIZES)
def test_documents(data: Any, text: str, size: tuple[int, int]) -> None:
    check(data, text, size)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_many_documents(part: int) -> None:
    check_many(DOCUMENTS, part)


# Every character that means something in Markdown, and little else.
MARKS = st.text("ab1 \n\t-+*#>`~=|.)_:[]()<!\\&;\"'日", max_size=120)


@quick
@given(st.data(), MARKS, SIZES)
def test_any_marks(data: Any, text: str, size: tuple[int, int]) -> None:
    check(data, text, size)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_many_marks(part: int) -> None:
    check_many(MARKS, part)
