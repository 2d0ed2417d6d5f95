"""aiosmtpd's handler: it answers 250 only once the mail is in the database."""

import asyncio
from email import message_from_bytes, policy
from typing import cast

import api_hour
from aiosmtpd.smtp import SMTP, Envelope, Session
from api_hour.plugins.asyncpg import Pool

INSERT = "INSERT INTO mails (sender, recipients, subject, content) VALUES ($1, $2, $3, $4)"
LEAVING = "421 The service restarts, come again"  # RFC 5321, 3.8
WINDOW = 0.5  # seconds of a drain before idle peers are told, too


class Receiver:
    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.leaving = False

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Begin a mail, unless this worker drains; the peer then retries on a new connection."""
        if self.leaving:
            transport = cast(asyncio.Transport, server.transport)
            asyncio.get_running_loop().call_soon(transport.close)  # after the answer
            return LEAVING
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = cast(bytes, envelope.content)
        subject = str(message_from_bytes(content, policy=policy.default)["Subject"])
        try:
            await self.pool.execute(INSERT, envelope.mail_from, envelope.rcpt_tos, subject, content)
        except api_hour.DatabaseError as error:
            return f"451 Try again later: {error}"
        return "250 Received"

    async def on_drain(self, server: api_hour.StreamServer) -> None:
        """Answer 421 to new mails, then to idle peers; mails in progress are finished."""
        self.leaving = True
        await asyncio.sleep(WINDOW)
        for transport in list(server.transports):
            transport = cast(asyncio.Transport, transport)
            peer = cast(SMTP, transport.get_protocol())
            if peer.envelope is None or not peer.envelope.mail_from:
                transport.write(LEAVING.encode() + b"\r\n")
                transport.close()
