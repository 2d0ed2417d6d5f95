"""Of one kind of record some a minute pass, so that nobody fills the disk by asking."""

import logging
from collections.abc import Callable

import pytest

from api_hour.logs import rate_limit
from api_hour.logs.rate_limit import MOST

rate_limit.limit(__name__)
log = logging.getLogger(__name__)
FLOOD = 3 * MOST


def fail(how: str) -> None:
    if how == "here":
        raise ValueError("here")
    raise ValueError("there")


def log_failure(how: str) -> None:
    try:
        fail(how)
    except ValueError:
        log.exception("An endpoint of %s failed", how)


def test_of_a_flood_some_records_pass_and_the_next_one_tells_of_the_rest(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(FLOOD):
        log.warning("A cookie of %d", number)
    assert caplog.messages == [f"A cookie of {number}" for number in range(MOST)]
    assert rate_limit.counts == {__name__: FLOOD - MOST}
    monkeypatch.setattr(rate_limit, "PERIOD", 0.0)
    log.warning("A cookie of %d", 99)
    log.warning("A cookie of %d", 100)
    assert caplog.messages[MOST:] == [
        f"A cookie of 99 ({FLOOD - MOST} more since the last like it)",
        "A cookie of 100",
    ]


def test_two_faults_do_not_hide_each_other(caplog: pytest.LogCaptureFixture) -> None:
    kinds: tuple[Callable[[], None], ...] = (
        lambda: log_failure("here"),
        lambda: log_failure("there"),
        lambda: log.error("A cookie of %d", 1),
        lambda: log.warning("A cookie of %d", 1),
        lambda: log.warning("A header of %d", 1),
    )
    for make in kinds:
        for _ in range(FLOOD):
            make()
    assert len(caplog.records) == len(kinds) * MOST


def test_what_a_peer_sent_makes_no_kind_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    for number in range(FLOOD):
        log.error(f"Exception in callback read(b'{number}')\nhandle: <Handle {number}>")
    assert len(caplog.records) == MOST
    for number in range(rate_limit.MAX_KINDS * 2):
        log.error(f"kind {number}")
    assert len(caplog.records) < rate_limit.MAX_KINDS + 2 * MOST
    assert len(rate_limit._periods) <= rate_limit.MAX_KINDS + 1


def test_what_somebody_looks_for_is_not_limited(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, __name__):
        for _ in range(FLOOD):
            log.info("for whoever looks")
            log.debug("for whoever looks")
    assert len(caplog.records) == 2 * FLOOD


def test_of_an_endpoint_only_tracebacks_are_limited(caplog: pytest.LogCaptureFixture) -> None:
    endpoints = logging.getLogger("endpoints")
    rate_limit.limit_tracebacks("endpoints")
    for number in range(FLOOD):
        endpoints.error("Error handling %d", number)
        try:
            fail("here")
        except ValueError:
            endpoints.exception("Failed %d", number)
    assert [record.getMessage() for record in caplog.records][-2:] == [
        f"Error handling {FLOOD - 1}",
        f"Failed {FLOOD - 1}: ValueError: here",
    ]
    assert len(caplog.records) == 2 * FLOOD
    assert len([record for record in caplog.records if record.exc_info]) == MOST
    assert rate_limit.counts == {"endpoints": FLOOD - MOST}
