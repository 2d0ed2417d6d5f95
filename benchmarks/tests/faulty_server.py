"""A server for tests: ``python faulty_server.py PORT [FAULT]`` answers /index.

It has at most one fault.

Faults: ``status``, ``type``, ``body``, ``spaces``, ``close``, ``hangup``; ``deaf`` takes no TERM;
``work=N`` takes N steps for a request; ``later=N`` answers the N-th and all that follow wrong,
``until=N`` answers only so many.
"""

import select
import signal
import socket
import sys

RIGHT = b'{"message":"Hello, World!"}'
WRONG = b'{"message": "Goodbye"}'
SPACED = b'{"message": "Hello, World!"}'


class Server:
    """A server of one thread for every connection."""

    def __init__(self, fault: str) -> None:
        self._fault, _, number = fault.partition("=")
        self._number = int(number or 0)
        self._count = 0
        if self._fault == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def run(self, listener: socket.socket) -> None:
        """Serve until the process ends."""
        connections = [listener]
        while True:
            for ready in select.select(connections, [], [])[0]:
                if ready is listener:
                    connections.append(listener.accept()[0])
                elif not self._serve(ready):
                    connections.remove(ready)
                    ready.close()

    def _serve(self, connection: socket.socket) -> bool:
        """Answer one request; return whether the connection stays open."""
        try:
            data = connection.recv(65536)
        except ConnectionResetError:
            return False
        if not data or self._fault == "hangup":
            return False
        self._count += 1
        if self._fault != "until" or self._count <= self._number:
            connection.sendall(self._answer())
        return self._fault != "close"

    def _answer(self) -> bytes:
        fails = self._fault == "status" or (self._fault == "later" and self._count >= self._number)
        if self._fault == "work":
            sum(range(self._number))
        status = "500 Sorry" if fails else "200 OK"
        media = "text/plain" if self._fault == "type" else "application/json"
        body = {"body": WRONG, "spaces": SPACED}.get(self._fault, RIGHT)
        head = f"HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n"
        connection = "Connection: close\r\n" if self._fault == "close" else ""
        return f"{head}{connection}\r\n".encode() + body


if __name__ == "__main__":
    port, fault = int(sys.argv[1]), "".join(sys.argv[2:])
    Server(fault).run(socket.create_server(("127.0.0.1", port), backlog=128))
