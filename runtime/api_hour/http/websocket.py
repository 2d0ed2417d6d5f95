"""What RFC 6455 forbids a client and aiohttp's reader takes: frames without a mask, close codes.

aiohttp's reader serves clients and servers alike, is compiled, and shows neither a frame's mask nor
the queue in which an error belongs. So its input is checked, frame by frame: instead of a frame
that a client may not send, it reads one that it refuses itself, with 1002.
"""

from aiohttp.http_websocket import WebSocketReader

HEADER = 2  # bytes: flags and opcode, mask and length
MASKED = 0x80
CLOSE = 0x8
REFUSED = b"\x70\x80\0\0\0\0"  # reserved bits: a protocol error to any reader
# RFC 6455, 7.4, and the IANA registry: the codes that may be in a frame.
CODES = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}


class FrameChecker:
    """Stands between a connection and aiohttp's reader of its WebSocket."""

    def __init__(self, reader: WebSocketReader) -> None:
        self._reader = reader
        self._held = b""  # the beginning of a frame, until it can be judged
        self._payload = 0  # bytes of the last frame that are still to come

    def feed_eof(self) -> None:
        """Tell the reader that the client has left."""
        self._reader.feed_eof()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Check the frames in ``data``; return what the reader returns."""
        data, self._held = self._held + bytes(data), b""
        start, end = self._payload, len(data)
        while start < end:
            length = _frame_length(data, start, end)
            if length == 0:
                self._held, data = data[start:], data[:start]
                break
            if length < 0:
                data = data[:start] + REFUSED
                break
            start += length
        self._payload = max(0, start - end)
        return self._reader.feed_data(data)


def _frame_length(data: bytes, start: int, end: int) -> int:
    """Return the length of the frame that starts there; 0: not known yet; -1: it is refused."""
    if end - start < HEADER:
        return 0
    second = data[start + 1]
    if not second & MASKED:
        return -1
    size = second & 0x7F
    extended = (0, 2, 8)[max(0, size - 125)]
    head = HEADER + extended + 4  # the mask
    if end - start < HEADER + extended:
        return 0
    if extended:
        size = int.from_bytes(data[start + HEADER : start + HEADER + extended])
    if data[start] & 0xF != CLOSE or size < 2:
        return head + size
    mask = start + head - 4
    if end - mask < 6:
        return 0
    code = (data[mask] ^ data[mask + 4]) << 8 | data[mask + 1] ^ data[mask + 5]
    return head + size if code in CODES else -1
