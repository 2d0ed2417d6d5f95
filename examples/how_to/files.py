"""Files that clients upload and download: ``api_hour files:Container``."""

import asyncio
from pathlib import Path
from urllib.parse import quote
from uuid import UUID, uuid4

import api_hour
import msgspec
from aiohttp import web

LARGEST = 50 * 2**20  # bytes of an upload, with the form around it


class Stored(msgspec.Struct):
    """What is known of a file; the name is the client's, and only shown."""

    id: UUID
    name: str
    size: int


class Files:
    """Files in a folder, under names of our own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    async def store(self, upload: api_hour.Upload) -> Stored:
        """Write a file; it has its name once it is whole."""
        stored = Stored(uuid4(), upload.filename or "unnamed", upload.size)
        part = self._folder / f"{stored.id}.part"
        try:
            await upload.save(part)
            await asyncio.to_thread(self._publish, part, stored)
        finally:
            part.unlink(missing_ok=True)
        return stored

    def _publish(self, part: Path, stored: Stored) -> None:
        part.with_suffix(".json").write_bytes(msgspec.json.encode(stored))
        part.rename(self.path(stored.id))

    async def about(self, id: UUID) -> Stored:
        """Return what is known of a file; raise a 404 if there is none."""
        note = self._folder / f"{id}.json"
        try:
            return msgspec.json.decode(await asyncio.to_thread(note.read_bytes), type=Stored)
        except FileNotFoundError:
            raise web.HTTPNotFound(text=f"There is no file {id}") from None

    def path(self, id: UUID) -> Path:
        return self._folder / str(id)


async def upload(file: api_hour.Upload, files: Files) -> api_hour.Reply[Stored]:
    """Store a file."""
    stored = await files.store(file)
    return api_hour.Reply(stored, headers={"Location": f"/files/{stored.id}"})


async def download(id: UUID, files: Files) -> web.FileResponse:
    """Return a file, or a range of it."""
    stored = await files.about(id)
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(stored.name, safe='')}",
        "X-Content-Type-Options": "nosniff",
    }
    return web.FileResponse(files.path(id), headers=headers)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    folder: str


class Container(api_hour.Container):
    settings = Settings

    def servers(self) -> dict[str, api_hour.Server]:
        app = web.Application()
        api = api_hour.API(app, title="Files", version="1.0")
        api.provide(Files(Path(self.config.folder)))
        api.post("/files", upload, status=201, body_limit=LARGEST)
        api.get("/files/{id}", download, errors=[404])
        return {"http": api_hour.HTTPServer(app)}
