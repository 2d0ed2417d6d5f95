"""The packages that generated projects need, from the network at most once an hour.

All runs of pytest in a clone share them, and so do ``make test`` and ``make docs``.
"""

import fcntl
import hashlib
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from testkit.projects import ROOT, bake, pip

KEPT = ROOT / "build" / "packages"
FRESH = 3600.0  # seconds; a lock made later may name newer versions, which these lack
REQUIREMENTS = ROOT / "requirements.txt"  # of making a project
DRIVERS = ("aiopg", "asyncpg")
# To build the projects and the runtime, and to lock, list and install a release.
BUILDING = ["flit_core>=3.11,<5", "setuptools>=77", "pip", "uv>=0.9,<1", "cyclonedx-bom>=7,<8"]
NAMED_IN = (
    Path(__file__),
    ROOT / "runtime" / "pyproject.toml",
    ROOT / "<<cookiecutter.project_slug>>" / "pyproject.toml",
    REQUIREMENTS,
)


def build(folder: Path) -> None:
    """Build the runtime's wheel into an empty folder."""
    pip("wheel", "--no-deps", f"--wheel-dir={folder}", str(ROOT / "runtime"))


def collect(folder: Path) -> None:
    """Fill a folder that holds the runtime's wheel with all other packages that are needed."""
    (wheel,) = folder.iterdir()
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = KEPT / _key()
        if not kept.exists() or time.time() - kept.stat().st_mtime > FRESH:
            for old in KEPT.glob("*/"):
                shutil.rmtree(old)
            _download(KEPT / "unfinished", wheel)
            (KEPT / "unfinished").rename(kept)
        shutil.copytree(kept, folder, dirs_exist_ok=True)


def _key() -> str:
    texts = [str(sys.version_info), *(path.read_text() for path in NAMED_IN)]
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:16]


def _download(folder: Path, wheel: Path) -> None:
    with TemporaryDirectory() as place:
        baked = [
            bake(Path(place) / "out", project_slug=f"needs_{driver}", database=driver)
            for driver in DRIVERS
        ]
        projects = [f"{project}[dev]" for project in baked]
        making = f"--requirement={REQUIREMENTS}"
        pip("download", f"--dest={folder}", str(wheel), *projects, *BUILDING, making)
    (folder / wheel.name).unlink()  # the next run has its own
