"""Uploads: files of a form, in memory or on the disk, for as long as their request."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import pytest
from aiohttp import FormData, web
from msgspec import Struct

import api_hour
from api_hour import API, Form, Upload
from runtime.tests.unit.http.api.serving import Client, served

LARGE = b"0123456789" * 250_000  # aiohttp keeps less than 1 MiB in memory
MULTIPART = {"Content-Type": "multipart/form-data; boundary=B"}
files: list[IO[bytes]] = []  # of the requests so far


class Album(Struct):
    title: str
    photos: list[Upload]
    cover: Upload | None = None


async def describe(photo: Upload) -> list[Any]:
    files.append(photo.file)
    return [photo.filename, photo.content_type, photo.size]


async def album(album: Form[Album]) -> dict[str, Any]:
    files.extend(photo.file for photo in album.photos)
    return {
        "title": album.title,
        "photos": {photo.filename: (await photo.read()).decode() for photo in album.photos},
        "cover": album.cover and album.cover.size,
    }


async def optional(photo: Upload | None = None, title: Form[str] = "") -> list[Any]:
    return [photo and photo.filename, title]


async def several(photos: list[Upload]) -> list[str]:
    return [photo.filename for photo in photos]


async def read(photo: Upload) -> list[Any]:
    start = (await photo.read(4)).decode()
    pieces = [len(piece) async for piece in photo]
    return [start, len(pieces), sum(pieces), (await photo.read()).decode()]


async def refuse(photo: Upload) -> None:
    files.append(photo.file)
    raise web.HTTPConflict


@api_hour.threaded
def in_thread(photo: Upload) -> int:
    return len(photo.file.read())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module", params=[True, False], ids=["fast", "not fast"])
def client(request: pytest.FixtureRequest, folder: Path) -> Iterator[Client]:
    async def save(photo: Upload) -> list[int]:
        await photo.read(3)
        await photo.save(folder / "saved")
        await photo.save(folder / "again")
        return [(folder / name).stat().st_size for name in ("saved", "again")]

    api = API(web.Application(), title="Test", version="1")
    for endpoint in (describe, album, optional, several, refuse):
        api.post(f"/{endpoint.__name__}", endpoint)
    for larger in (read, in_thread, save):
        api.post(f"/{larger.__name__}", larger, body_limit=2 * len(LARGE))
    with served(api._app, fast=request.param) as client:
        yield client


def form(*fields: tuple[str, bytes, str | None]) -> FormData:
    made = FormData(default_to_multipart=True)
    for name, content, filename in fields:
        value = content.decode() if filename is None else BytesIO(content)
        made.add_field(name, value, filename=filename)
    return made


def part(disposition: bytes, headers: bytes = b"") -> bytes:
    start = b"--B\r\nContent-Disposition: form-data; name=photo" + disposition
    return start + b"\r\n" + headers + b"\r\n1\r\n--B--\r\n"


def test_a_file_has_a_name_a_type_and_a_size(client: Client) -> None:
    sent = FormData(quote_fields=False)
    sent.add_field("photo", BytesIO(b"12345"), filename="a b.png", content_type="image/png")
    assert client("POST", "/describe", data=sent).json == ["a b.png", "image/png", 5]


NAMES: dict[bytes, str] = {
    b'; filename="../../etc/passwd"': "passwd",
    rb'; filename="C:\\photos\\a.png"': "a.png",
    b'; filename="a/"': "",
    b'; filename=".."': "",
    b'; filename="."': "",
    b"; filename*=utf-8''%e2%82%ac.png": "€.png",
    b"; filename*=utf-8''..%2Fa.png": "a.png",
    b'; filename="\xe2\x82\xac"': "€",
    b'; filename="\xff.png"': "?.png",
}


@pytest.mark.parametrize("disposition", NAMES, ids=repr)
def test_a_file_name_has_no_folders_and_is_text(client: Client, disposition: bytes) -> None:
    answer = client("POST", "/describe", data=part(disposition), headers=MULTIPART)
    assert (answer.status, answer.json[0]) == (200, NAMES[disposition])


def test_the_type_of_a_file_is_text_whatever_bytes_come(client: Client) -> None:
    body = part(b"; filename=a", b"Content-Type: image/\xff\r\n")
    assert client("POST", "/describe", data=body, headers=MULTIPART).json[1] == "image/?"


def test_a_form_has_several_files_under_one_key(client: Client) -> None:
    fields = [("photos", b"one", "1.png"), ("photos", b"two", "2.png"), ("title", b"A", None)]
    assert client("POST", "/album", data=form(*fields)).json == {
        "title": "A",
        "photos": {"1.png": "one", "2.png": "two"},
        "cover": None,
    }
    cover = client("POST", "/album", data=form(*fields, ("cover", b"four", "c"))).json["cover"]
    assert cover == 4
    assert client("POST", "/several", data=form(*fields[:2])).json == ["1.png", "2.png"]


def test_a_field_in_which_no_file_was_chosen_is_absent(client: Client) -> None:
    empty = part(b'; filename=""').replace(b"\r\n1\r\n", b"\r\n\r\n")
    answer = client("POST", "/optional", data=empty, headers=MULTIPART)
    assert answer.json == [None, ""]
    answer = client("POST", "/describe", data=empty, headers=MULTIPART)
    assert answer.faults == [("form", "photo", "is missing")]
    assert client("POST", "/optional", data=form(("photo", b"1", "a"))).json == ["a", ""]


def test_text_instead_of_a_file_is_a_422_and_a_file_instead_of_text_too(client: Client) -> None:
    assert client("POST", "/describe", data={"photo": "1"}).faults == [
        ("form", "photo", "must be a file")
    ]
    assert client("POST", "/optional", data=form(("title", b"1", "a"))).faults == [
        ("form", "title", "must be a string")
    ]
    twice = form(("photo", b"1", "a"), ("photo", b"1", "a"))
    assert client("POST", "/describe", data=twice).faults == [
        ("form", "photo", "may come once, and came 2 times")
    ]


@pytest.mark.parametrize("content", [b"0123456789", LARGE], ids=["memory", "disk"])
def test_a_file_is_read_by_pieces_saved_whole_and_read_in_a_thread(
    client: Client, folder: Path, content: bytes
) -> None:
    def sent() -> FormData:
        return form(("photo", content, "a"))

    start, pieces, rest, end = client("POST", "/read", data=sent()).json
    assert (start, rest, end) == ("0123", len(content) - 4, "")
    assert pieces == -(-rest // 262_144)
    assert client("POST", "/save", data=sent()).json == [len(content)] * 2
    assert (folder / "saved").read_bytes() == content
    assert client("POST", "/in_thread", data=sent()).json == len(content)


def test_a_file_above_the_limit_is_a_413(client: Client) -> None:
    answer = client("POST", "/describe", data=form(("photo", LARGE, "a")))
    assert (answer.status, answer.json["detail"]) == (413, "The body is larger than 1048576 bytes")


def test_files_are_closed_after_the_answer_an_error_and_a_refusal(client: Client) -> None:
    files.clear()
    client("POST", "/describe", data=form(("photo", b"1", "a")))
    client("POST", "/refuse", data=form(("photo", b"1", "a")))
    client("POST", "/album", data=form(("title", b"1", None), ("photos", b"1", "a")))
    assert [file.closed for file in files] == [True, True, True]
