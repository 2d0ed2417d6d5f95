"""A disk that can be full: a small tmpfs, which only root may mount."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A file system of its own in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, left: int = 0) -> None:
        """Leave no byte, or a few."""
        self._filler.write_bytes(bytes(shutil.disk_usage(self.folder).free - left))

    def protect(self) -> None:
        """Allow reading only."""
        subprocess.run(["mount", "-o", "remount,ro", str(self.folder)], check=True)

    def make_room(self) -> None:
        """Take the filling out again."""
        self._filler.unlink()


@contextmanager
def mounted(folder: Path, size: str = "64m") -> Iterator[Disk]:
    """Mount a disk of some size in a new folder; skip the test where that is not allowed."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("a disk cannot be mounted here")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
