"""Build the image of a generated project offline, and run it as an orchestrator would.

Only buildah and mmdebstrap are needed: the base image is made of Debian packages, under the name
that the Dockerfile expects. The container is a process in namespaces of its own, on a read-only
root file system, as the user of the image.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from testkit.processes import Daemon
from testkit.projects import Project, pip, unpack
from testkit.registry import Registry
from testkit.waiting import until

BASE = "docker.io/library/python:3.13-slim-trixie"
PYTHON = "3.13"
BLOB = "application/octet-stream"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
NEEDS = ("buildah", "mmdebstrap", "ip", "nsenter", "unshare")
# Only unpacked: configuring the packages would take twice as long. The real image has libstdc++6
# too, because of apt; ujson needs it.
DEBIAN = (
    *("base-files", "coreutils", "dash", "libc-bin", "libstdc++6"),
    *("python3-pip", "python3-venv"),
)
GLIBC = ("manylinux2014", "manylinux_2_17", "manylinux_2_28")
# A /proc of its own, a /dev with three devices, /mnt from outside; everything else is read-only.
ENTER = """
root=$1 outside=$2 user=$3
shift 3
ip link set lo up
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero urandom; do
    touch "$root/dev/$name"
    mount --bind /dev/$name "$root/dev/$name"
done
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount --bind "$outside" "$root/mnt"
mount -o remount,bind,ro "$root"
exec chroot --userspec="$user" --groups= "$root" env -i "$@"
"""


def missing() -> list[str]:
    """Return what this machine needs to build and run an image, but does not have."""
    lacks = [name for name in NEEDS if shutil.which(name) is None]
    return lacks if os.geteuid() == 0 else ["root", *lacks]


@dataclass(frozen=True)
class Packages:
    """The wheels that an image needs, for its Python, and the locks that name them."""

    folder: Path  # of all of them
    locks: dict[str, str]

    @classmethod
    def download(cls, project: Project, folder: Path) -> "Packages":
        """Fetch what is deployed, and what builds it."""
        (wheel,) = (project.folder / "wheels").iterdir()
        about = tomllib.loads((project.folder / "pyproject.toml").read_text())
        deployed = [
            f"{wheel}[metrics,aiopg]",
            *about["project"]["optional-dependencies"]["migrate"],
        ]
        builds = ["pip", _variable(project, "SBOM"), *about["build-system"]["requires"]]
        platforms = [f"--platform={libc}_{platform.machine()}" for libc in GLIBC]
        chosen = [f"--python-version={PYTHON}", "--only-binary=:all:", *platforms]
        locks = {}
        for lock, needs in {"requirements.lock": deployed, "build.lock": builds}.items():
            own = folder / lock
            pip("download", f"--dest={own}", *chosen, *needs)
            lines = [_locked(path) for path in sorted(own.iterdir()) if path.name != wheel.name]
            locks[lock] = "\n".join([*lines, ""])
            for path in own.iterdir():
                path.rename(folder / path.name)
        locks["requirements.lock"] += f"./wheels/{wheel.name} {_hash(wheel)}\n"
        return cls(folder, locks)


def _variable(project: Project, name: str) -> str:
    (value,) = re.findall(rf"^{name} := (.+)$", (project.folder / "Makefile").read_text(), re.M)
    return str(value)


def _locked(wheel: Path) -> str:
    name, version, *_ = wheel.name.split("-")
    return f"{name}=={version} {_hash(wheel)}"


def _hash(path: Path) -> str:
    return f"--hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


class Store:
    """A store of images in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.environment = {
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
        }
        self._configure("overlay")
        if self._buildah("info").returncode != 0:  # overlays cannot be stacked
            self._configure("vfs")

    def _configure(self, driver: str) -> None:
        settings = {name: str(self._folder / name) for name in ("graphroot", "runroot")}
        settings["driver"] = driver
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        (self._folder / "storage.conf").write_text("\n".join(["[storage]", *lines]))

    def _buildah(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["buildah", *arguments],
            cwd=self._folder,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, *arguments: str) -> str:
        """Run buildah; return its output."""
        result = self._buildah(*arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def close(self) -> None:
        """Remove everything, or pytest would keep half a gigabyte."""
        self.run("umount", "--all")
        shutil.rmtree(self._folder)

    def push(self, registry: Registry, name: str, tag: str, text: str) -> None:
        """Let a registry serve an image with one file ``text``."""
        container = self.run("from", "scratch")
        Path(self.run("mount", container), "text").write_text(text)
        self.run("commit", "--quiet", "--format=docker", "--rm", container, "localhost/pushed")
        folder = self._folder / text
        self.run("push", "localhost/pushed", f"dir:{folder}")
        for path in folder.iterdir():
            registry.content[f"{name}/blobs/sha256:{path.name}"] = (BLOB, path.read_bytes())
        registry.put(name, tag, (folder / "manifest.json").read_bytes(), MANIFEST)

    def make_base(self) -> str:
        """Make the base image that the Dockerfile names; return its digest."""
        container = self.run("from", "scratch")
        root = Path(self.run("mount", container))
        unpack(root, *DEBIAN)
        _configure(root)
        self.run("commit", "--quiet", "--format=docker", "--rm", container, BASE)
        about = json.loads(self.run("inspect", "--type=image", BASE))
        return str(about["FromImageDigest"])


def _configure(root: Path) -> None:
    """Do the necessary part of what configuring the packages does."""
    for name, mode in {"mnt": 0o755, "proc": 0o755, "tmp": 0o1777, "var/tmp": 0o1777}.items():
        (root / name).mkdir(exist_ok=True)
        (root / name).chmod(mode)
    certificates = sorted((root / "usr/share/ca-certificates/mozilla").iterdir())
    bundle = "".join(path.read_text() for path in certificates)
    (root / "etc/ssl/certs/ca-certificates.crt").write_text(bundle)


@dataclass(frozen=True)
class Image:
    """An unpacked image."""

    config: dict[str, Any]
    root: Path

    @classmethod
    def of(cls, store: Store, name: str) -> "Image":
        """Look an image up in a store."""
        about = json.loads(store.run("inspect", "--type=image", name))
        root = store.run("mount", store.run("from", "--pull-never", name))
        return cls(about["Docker"]["config"], Path(root))

    @contextmanager
    def running(self, *arguments: str, outside: Path, **environment: str) -> Iterator["Container"]:
        """Run the image's entry point, or ``arguments``, until the end of the block."""
        command = ["unshare", "--mount", "--pid", "--net", "--fork"]
        command += ["sh", "-ec", ENTER, "sh", str(self.root), str(outside), self.config["User"]]
        command += [
            *self.config["Env"],
            *(f"{name}={value}" for name, value in environment.items()),
        ]
        command += arguments or self.config["Entrypoint"]
        with Container(self, *command) as container:
            yield container


class Container(Daemon):
    """A running image; ``command`` enters its namespaces."""

    def __init__(self, image: Image, *command: str) -> None:
        self._image = image
        super().__init__(image.root, command=command)

    @cached_property
    def first(self) -> psutil.Process:
        """Return the process that has PID 1 inside."""
        (child,) = until(lambda: psutil.Process(self.pid).children(), "there is no PID 1")
        return child

    def within(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command inside, as the user of the image."""
        user, _, group = self._image.config["User"].partition(":")
        enter = ["nsenter", f"--target={self.first.pid}", "--mount", "--pid", "--net", "--root"]
        enter += ["--wd", f"--setuid={user}", f"--setgid={group}", "env", "-i"]
        return subprocess.run(
            [*enter, *self._image.config["Env"], *command],
            capture_output=True,
            text=True,
            check=False,
        )

    def ask(self, port: int, path: str, data: str = "", *, host: str = "127.0.0.1") -> str:
        """Return the body of the response to a request from inside."""
        script = (
            "import sys; from urllib.request import urlopen; "
            "print(urlopen(sys.argv[1], sys.argv[2].encode() or None).read().decode())"
        )
        result = self.within("python3", "-c", script, f"http://{host}:{port}{path}", data)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()
