"""Uploaded files: the parts of a form that have a file name."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from aiohttp import web

PIECE = 262_144  # bytes


class Upload:
    """An uploaded file: in memory while it is small, otherwise in a temporary file without a name.

    It lives until its request is answered. ``filename`` and ``content_type`` are what the client
    says; of a path only the last part is kept, which may be empty. ``size`` is in bytes, and
    ``file`` may be read directly where that may block, as in a ``threaded`` endpoint.
    """

    def __init__(self, field: web.FileField) -> None:
        name = _utf8(field.filename).replace("\\", "/").rpartition("/")[2]
        self.filename = "" if name in (".", "..") else name
        self.content_type = _utf8(field.content_type)
        self.file: IO[bytes] = field.file
        self.size = self.file.seek(0, os.SEEK_END)
        self.file.seek(0)

    async def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, or all that are left."""
        return await asyncio.to_thread(self.file.read, size)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self.read(PIECE):
            yield piece

    async def save(self, path: str | os.PathLike[str]) -> None:
        """Write the whole file to ``path``, which must be a name of your own, not ``filename``."""
        await asyncio.to_thread(self._copy, Path(path))

    def _copy(self, path: Path) -> None:
        self.file.seek(0)
        with path.open("wb") as target:
            shutil.copyfileobj(self.file, target, PIECE)


def _utf8(text: str) -> str:
    """Return a header's text as UTF-8 can hold it."""
    return text.encode("utf-8", "replace").decode()
