"""Files that root opens: nobody else has a say in which file that is."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api_hour.owned_files import ForeignFile, open_owned, refuse_foreign

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="root alone follows the rule")

MALLORY, SERVICE = 54321, 54322  # users without an account
NEW = os.O_WRONLY | os.O_CREAT | os.O_APPEND


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Return a folder of mallory's in a folder of root's."""
    return given(tmp_path / "theirs", MALLORY)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """Return a file of root's, which must not be touched."""
    file = tmp_path / "target"
    file.write_text("of root\n")
    before = file.stat()
    yield file
    after = file.stat()
    assert file.read_text() == "of root\n"
    assert (before.st_uid, before.st_mode) == (after.st_uid, after.st_mode)


def given(folder: Path, user: int, mode: int = 0o755) -> Path:
    folder.mkdir(exist_ok=True)
    os.chown(folder, user, user)
    folder.chmod(mode)
    return folder


def linked(path: Path, target: Path, user: int) -> Path:
    path.symlink_to(target)
    os.chown(path, user, user, follow_symlinks=False)
    return path


def owned(path: Path, user: int, mode: int = 0o644) -> Path:
    path.write_text("of somebody\n")
    path.chmod(mode)
    os.chown(path, user, user)
    return path


def strictly(path: Path, flags: int = NEW, **options: Any) -> None:
    os.close(open_owned(str(path), flags, "the file", **options))


def as_a_log(path: Path, flags: int = NEW, **options: Any) -> None:
    os.close(open_owned(str(path), flags, "the log", anywhere=True, **options))


@pytest.mark.parametrize("opened", [strictly, as_a_log])
def test_a_link_of_others_is_not_followed_anywhere_in_the_path(
    opened: Callable[..., None], tmp_path: Path, theirs: Path, target: Path
) -> None:
    last = linked(theirs / "last", target, MALLORY)
    middle = linked(theirs / "middle", tmp_path, MALLORY)
    dangling = linked(theirs / "dangling", tmp_path / "made", MALLORY)
    moved = linked(theirs / "moved", target, 0)  # root's own, that mallory has put there
    for path in (last, middle / "target", dangling, moved):
        with pytest.raises(ForeignFile, match=r"the link .* is not followed"):
            opened(path)
    assert not (tmp_path / "made").exists()


def test_a_link_of_root_where_a_group_may_write_is_named_with_what_it_leads_to(
    tmp_path: Path, target: Path
) -> None:
    shared = given(tmp_path / "shared", 0, 0o775)
    for name, leads in (("absolute", target), ("relative", Path("../target"))):
        link = linked(shared / name, leads, 0)
        cure = f"the link {link} is not followed: .*; name what it leads to, {target}, if"
        with pytest.raises(ForeignFile, match=cure):
            as_a_log(link)
    with pytest.raises(ForeignFile, match=r"belongs to user .*; name a file of root's"):
        as_a_log(linked(shared / "foreign", target, MALLORY))


@pytest.mark.parametrize("opened", [strictly, as_a_log])
def test_links_of_root_are_followed(opened: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "link").symlink_to("../deep/./er")
    (tmp_path / "absolute").symlink_to(tmp_path / "deep" / "link" / "file")
    opened(tmp_path / "absolute")
    assert (tmp_path / "deep" / "er" / "file").exists()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="Too many levels"):
        opened(tmp_path / "loop")


@pytest.mark.parametrize("opened", [strictly, as_a_log])
def test_a_file_of_others_is_refused_and_so_is_a_hard_link(
    opened: Callable[..., None], theirs: Path, target: Path
) -> None:
    foreign = owned(theirs / "foreign", MALLORY)
    in_tmp = owned(given(theirs / "tmp", 0, 0o1777) / "foreign", MALLORY)
    os.link(target, theirs / "hard")
    os.mkfifo(theirs / "pipe")
    os.chown(theirs / "pipe", MALLORY, MALLORY)
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
    for path in (foreign, in_tmp, theirs / "hard", theirs / "pipe"):
        with pytest.raises(ForeignFile):
            opened(path, flags)
    assert foreign.read_text() == "of somebody\n"
    (theirs / "hard").unlink()


def test_a_pipe_is_opened_only_where_others_cannot_put_one(tmp_path: Path, theirs: Path) -> None:
    safe, sticky = given(tmp_path / "safe", 0), given(tmp_path / "sticky", 0, 0o1777)
    shared = given(tmp_path / "shared", 0, 0o775)
    for folder, user, accepted in (
        (theirs, MALLORY, False),
        (theirs, 0, False),
        (shared, MALLORY, False),
        (sticky, MALLORY, False),
        (sticky, 0, True),
        (safe, MALLORY, True),
    ):
        pipe = folder / f"pipe{user}"
        os.mkfifo(pipe)
        os.chown(pipe, user, user)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        if accepted:
            as_a_log(pipe, owner=MALLORY)
        else:
            with pytest.raises(ForeignFile, match=f"{pipe} is neither a file nor a terminal: "):
                as_a_log(pipe, owner=MALLORY)
        os.close(reader)


def test_the_whole_chain_of_folders_is_looked_at(tmp_path: Path, theirs: Path) -> None:
    below = given(theirs / "below", 0)
    for path in (theirs / "file", below / "file"):
        with pytest.raises(
            ForeignFile, match=f"the file: {theirs} belongs to user {MALLORY}; name"
        ):
            strictly(path)
        as_a_log(path)  # which is new, so it is root's
    writable = given(tmp_path / "writable", 0, 0o775)
    with pytest.raises(ForeignFile, match=f"others than user 0 may write to {writable}; name"):
        strictly(writable / "file")
    sticky = given(tmp_path / "sticky", 0, 0o1777)
    strictly(sticky / "file")
    strictly(sticky / "file")
    owned(sticky / "mode", 0, 0o666)
    with pytest.raises(ForeignFile, match=r"may write to \S*/mode; name"):
        strictly(sticky / "mode")
    as_a_log(sticky / "mode")


def test_who_is_trusted_counts_as_root_and_an_owner_may_have_the_file(theirs: Path) -> None:
    path = owned(theirs / "file", MALLORY)
    strictly(path, trusted={0, MALLORY})
    refuse_foreign(str(path), "the file", trusted={0, MALLORY})
    as_a_log(path, owner=MALLORY)
    for owner in (0, SERVICE):
        with pytest.raises(ForeignFile, match=f"belongs to user {MALLORY}; name"):
            as_a_log(path, owner=owner)
    with pytest.raises(ForeignFile, match="theirs belongs to user"):
        refuse_foreign(str(path), "the file", owner=MALLORY)


def test_what_is_missing_is_refused_where_anybody_may_make_it(tmp_path: Path) -> None:
    refuse_foreign(str(tmp_path / "missing"), "it")
    refuse_foreign("/", "it")
    sticky = given(tmp_path / "sticky", 0, 0o1777)
    with pytest.raises(ForeignFile, match="anybody may put something at"):
        refuse_foreign(str(sticky / "missing"), "it")
    with pytest.raises(ForeignFile, match="others than user 0 may write to"):
        refuse_foreign(str(sticky), "it")
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "no")):
        refuse_foreign(str(tmp_path / "no" / "file"), "it")


def test_a_descriptor_of_this_process_is_opened_as_it_is(theirs: Path, tmp_path: Path) -> None:
    foreign = owned(theirs / "foreign", MALLORY)
    with foreign.open("a") as file:
        as_a_log(Path(f"/proc/self/fd/{file.fileno()}"))
        as_a_log(Path(f"/dev/fd/{file.fileno()}"))
    reader, writer = os.pipe()
    as_a_log(Path(f"/dev/fd/{writer}"))
    os.close(reader)
    os.close(writer)
    as_a_log(Path("/dev/null"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device"):  # nobody reads, and nobody is waited for
        as_a_log(tmp_path / "pipe")
    strictly(Path("/dev/null"))


def test_an_error_names_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unopenable:
        for path in (tmp_path, Path(f"/proc/self/fd/{unopenable.fileno()}")):
            with pytest.raises(OSError, match=f"'{path}'"):
                as_a_log(path)
    monkeypatch.setattr("api_hour.owned_files.os.fchown", lambda *_: os.close(-1))
    with pytest.raises(OSError, match=f"'{tmp_path}/new'"):
        as_a_log(tmp_path / "new", give=(SERVICE, SERVICE))


def test_an_empty_file_as_logrotate_creates_it_is_given_away_and_keeps_its_group(
    tmp_path: Path, theirs: Path
) -> None:
    safe, shared = given(tmp_path / "safe", 0), given(tmp_path / "shared", 0, 0o775)
    below = given(shared / "below", 0)
    of_all = given(tmp_path / "all", 0, 0o777)
    in_theirs = given(theirs / "below", 0, 0o775)
    group = 54323
    for folder, text, owner in (
        (safe, "", SERVICE),
        (safe, "text", SERVICE),
        (shared, "", SERVICE),
        (shared, "text", 0),  # perhaps the log of another daemon, moved there
        (below, "", SERVICE),
        (of_all, "", 0),
        (in_theirs, "", 0),
    ):
        path = folder / f"log{text}"
        path.write_text(text)
        os.chown(path, 0, group)
        path.chmod(0o640)
        as_a_log(path, owner=SERVICE, give=(SERVICE, SERVICE))
        after = path.stat()
        assert (after.st_uid, after.st_gid) == (owner, group), path
        assert after.st_mode & 0o777 == 0o640
        new = folder / "new"
        as_a_log(new, owner=SERVICE, give=(SERVICE, SERVICE))
        assert (new.stat().st_uid, new.stat().st_gid) == (SERVICE, SERVICE)
        new.unlink()
    (shared / "logtext").rename(shared / "truncated")
    # What a caller truncates was not empty.
    as_a_log(shared / "truncated", os.O_WRONLY | os.O_TRUNC, give=(SERVICE, SERVICE))
    assert (shared / "truncated").stat().st_uid == 0


def test_flags_mean_what_they_mean_to_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError, match=str(path)):
        strictly(path, os.O_RDWR)
    strictly(path, NEW | os.O_EXCL, mode=0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError, match=str(path)):
        strictly(path, NEW | os.O_EXCL)
    path.write_text("more")
    strictly(path, os.O_RDWR)
    assert path.read_text() == "more"
    strictly(path, os.O_RDWR | os.O_TRUNC)
    assert path.read_text() == ""
    descriptor = open_owned(str(path), os.O_RDWR, "the file")
    assert os.get_blocking(descriptor)
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_who_changes_the_path_meanwhile_gains_nothing(
    tmp_path: Path, theirs: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, moved = given(theirs / "folder", MALLORY), theirs / "moved"
    secret = given(tmp_path / "secret", 0) / "log"
    secret.write_text("")
    plain = os.open
    changes: list[Callable[[], object]] = []  # before each step at the last name

    def swap_folder() -> None:
        folder.rename(moved)
        linked(folder, secret.parent, MALLORY)

    def hostile(path: str, *arguments: Any, **options: Any) -> int:
        if path.endswith("log") and changes:
            changes.pop(0)()
        return plain(path, *arguments, **options)

    monkeypatch.setattr("api_hour.owned_files.os.open", hostile)
    changes += [lambda: None, swap_folder, lambda: linked(moved / "log", target, MALLORY)]
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        as_a_log(folder / "log")
    (moved / "log").unlink()
    folder.unlink()
    moved.rename(folder)
    changes += [lambda: None, swap_folder]
    as_a_log(folder / "log")
    assert (moved / "log").exists()
    assert secret.read_text() == ""
    assert changes == []
