"""smtp: a mail that was received is listed, once; who could not leave one is told to come again."""

import smtplib
from collections.abc import Callable, Iterator
from contextlib import closing

from examples.tests.asking import Asking
from testkit.processes import Daemon
from testkit.waiting import TIMEOUT
from testkit.reloads import work_through_three_reloads


def _is_farewell(error: smtplib.SMTPException) -> bool:
    """Tell whether the server said 421; smtplib may see only the closed connection after it."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return {code for code, _ in error.recipients.values()} == {421}
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code == 421
    return isinstance(error, smtplib.SMTPServerDisconnected)


def test_three_reloads_lose_no_mail_and_double_none(
    serve: Callable[..., Daemon], database: str
) -> None:
    listen = {"http": "tcp://127.0.0.1:0", "smtp": "tcp://127.0.0.1:0"}
    daemon = serve("smtp", "mail:Container", listen, DATABASE_URL=database)
    received, told = [], []

    def connect() -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", daemon.port("smtp"), timeout=TIMEOUT)

    def client(turns: Iterator[int]) -> None:
        """Send many mails on a connection, and a mail again for which 421 was said."""
        number = next(turns, 0)
        while number:
            smtp = connect()
            try:
                while number:
                    mail = f"Subject: mail {number}\r\n\r\nBody\r\n"
                    smtp.sendmail("a@example.org", ["b@example.org", "c@example.org"], mail)
                    received.append(f"mail {number}")
                    number = next(turns, 0)
                smtp.quit()
            except smtplib.SMTPException as error:
                smtp.close()
                if not _is_farewell(error):
                    raise
                told.append(number)

    with closing(connect()) as idle:
        idle.ehlo()
        work_through_three_reloads(daemon, client, client, client)
        assert idle.noop()[0] == 421
    assert len(told) >= 9  # three clients, three reloads
    with closing(Asking(daemon)) as http:
        status, mails = http.ask("GET", "/")
    assert status == 200
    assert sorted(mail["subject"] for mail in mails) == sorted(received)
    assert mails[0]["sender"] == "a@example.org"
    assert mails[0]["recipients"] == ["b@example.org", "c@example.org"]
    assert daemon.stop() == 0
