"""smtp: every accepted mail is listed once, and a client of a draining worker is told to retry."""

import smtplib
from collections.abc import Callable, Iterator
from contextlib import closing

from examples.tests.json_client import JSONClient
from testkit.processes import Daemon
from testkit.waiting import TIMEOUT
from testkit.reloads import work_through_three_reloads


def _is_421(error: smtplib.SMTPException) -> bool:
    """Tell whether the server sent 421; smtplib may only see that it closed afterwards."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return {code for code, _ in error.recipients.values()} == {421}
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code == 421
    return isinstance(error, smtplib.SMTPServerDisconnected)


def test_three_reloads_lose_and_duplicate_no_mail(
    serve: Callable[..., Daemon], database: str
) -> None:
    listen = {"http": "tcp://127.0.0.1:0", "smtp": "tcp://127.0.0.1:0"}
    daemon = serve("smtp", "mail:Container", listen, DATABASE_URL=database)
    received, refused = [], []

    def connect() -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", daemon.port("smtp"), timeout=TIMEOUT)

    def client(turns: Iterator[int]) -> None:
        """Send many mails on a connection; send one again if it is refused with 421."""
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
                if not _is_421(error):
                    raise
                refused.append(number)

    with closing(connect()) as idle:
        idle.ehlo()
        work_through_three_reloads(daemon, client, client, client)
        assert idle.noop()[0] == 421
    assert len(refused) >= 9  # three clients, three reloads
    with closing(JSONClient(daemon)) as http:
        status, mails = http.ask("GET", "/")
    assert status == 200
    assert sorted(mail["subject"] for mail in mails) == sorted(received)
    assert mails[0]["sender"] == "a@example.org"
    assert mails[0]["recipients"] == ["b@example.org", "c@example.org"]
    assert daemon.stop() == 0
