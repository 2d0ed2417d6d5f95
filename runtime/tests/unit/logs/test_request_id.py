"""A client may name its request, unless the name could harm a log."""

import pytest

from api_hour.logs.request_id import Ids


@pytest.mark.parametrize("given", ["a", "abc-123", "0a1B.c_d~e+f/g=h:i", "x" * 128])
def test_a_harmless_id_is_kept(given: str) -> None:
    assert Ids().of(given) == given


@pytest.mark.parametrize(
    "given", [None, "", " ", "a b", "x" * 129, "a\nb", "é", 'a"b', "<a>", "a\x1b[0m", "a,b"]
)
def test_any_other_is_replaced(given: str | None) -> None:
    identity = Ids().of(given)
    assert identity != given
    assert Ids().of(identity) == identity  # what we make is harmless, too


def test_no_two_requests_have_the_same_id() -> None:
    processes = [Ids(), Ids()]
    made = [ids.of(None) for ids in processes for _ in range(100)]
    assert len(set(made)) == 200
