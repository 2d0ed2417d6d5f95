"""A DSN: what can be misread is refused, and nobody gets to see a password."""

import socket
from typing import Any

import pytest

from api_hour.exceptions import ConfigError, DatabaseUnavailable
from api_hour.plugins import _dsn, aiopg, asyncpg
from testkit.ports import free_port

# Passwords as they are, where %XX is wanted; how many of the two drivers refuse the URL.
ODD = {
    "SEC/RET": 2,
    "/SECRET": 2,
    "SEC@RET": 2,
    "SECRET@/RET": 2,
    "SEC@RET/1:2": 2,
    "12/SECRET": 2,
    "SEC/R?ET": 2,
    "/1?connect_timeout=SECRET": 2,
    "SEC?RET": 1,
    "SEC?port=RET": 1,
    "SEC#RET": 1,
    "SEC[RET": 1,
    "SEC%RET": 1,
    "SEC%00RET": 1,
    "SEC RET": 0,
    'SEC"RET': 0,
    "SEC\u00e9RET": 0,
}
GOOD = [
    "postgresql://",
    "postgres://localhost",
    "postgresql://user:p%2Fw@host:5432/name",
    "postgresql://user:!$&'()*+,;=:._~-@host.example,other:5433/name?target_session_attrs=any",
    "postgresql://user:p:w@host",
    "postgresql://user@[::1]:5432/name?options=-c%20geqo%3Doff",
    "postgresql://api_hour:word@/postgres?host=/a/folder&port=5432",
    "postgresql:///name?host=/run/postgresql",
]


@pytest.mark.parametrize("text", ["", "1.5", "1_000", "\u0663", "32768", "9" * 5000, "0x1"])
def test_a_number_of_a_dsn_is_one_that_the_system_takes(text: str) -> None:
    message = "keepalives_idle of the PostgreSQL DSN must be a whole number from 0 to 32767"
    with pytest.raises(ConfigError, match=f"^{message}$"):
        _dsn.number("keepalives_idle", text)
    good = {"32767": 32767, " 5 ": 5, "+5": 5, "-5": 0, "0": 0}
    assert {given: _dsn.number("keepalives_idle", given) for given in good} == good


def test_the_error_for_a_dsn_shows_the_form_and_no_password() -> None:
    assert str(_dsn.unreadable_dsn()) == (
        "cannot parse the PostgreSQL DSN: write it as postgresql://USER:PASSWORD@HOST:PORT/NAME,"
        " special characters as %XX, such as %2F for /"
    )


@pytest.mark.parametrize("password", ODD, ids=range(len(ODD)))
async def test_an_odd_password_is_refused_or_read_whole_and_never_shown(
    password: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Any] = []
    look_up = socket.getaddrinfo

    def record(host: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", record)
    url = f"postgresql://user:{password}@127.0.0.1:{free_port()}/name"
    refused = []
    for driver in (aiopg, asyncpg):
        try:
            async with driver.create_pool(url) as pool:
                await pool.ping()
        except (ConfigError, DatabaseUnavailable) as error:
            told = [str(error), str(error.__cause__), caplog.text, str(asked)]
            assert [text for text in told if "SEC" in text or "RET" in text] == []
            refused.append(isinstance(error, ConfigError))
    assert refused.count(True) == ODD[password]
    assert {*asked} <= {"127.0.0.1"}


@pytest.mark.parametrize("password", [*ODD, "SEC\nRET"], ids=range(len(ODD) + 1))
def test_other_programs_get_no_url_that_they_may_misread(password: str) -> None:
    url = f"postgresql://user:{password}@127.0.0.1:5432/name"
    with pytest.raises(ConfigError, match="special characters as %XX") as caught:
        _dsn.refuse_ambiguous_url(url)
    assert "SEC" not in str(caught.value)


@pytest.mark.parametrize("url", GOOD)
def test_a_url_that_every_program_reads_alike_is_good(url: str) -> None:
    _dsn.refuse_ambiguous_url(url)
    aiopg.Connector(url, 1, 1, 1)


@pytest.mark.parametrize("url", ["", "host=a password=b", "mysql://a/b", "postgresql://h:a/b?c#d"])
def test_what_is_not_a_url_of_postgresql_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot parse"):
        _dsn.refuse_ambiguous_url(url)
