"""What a worker is born from: a release folder and a parsed configuration, fixed at HUP."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api_hour.config.addresses import Address
from api_hour.config.yaml_document import Document
from api_hour.exceptions import ConfigError


@dataclass(frozen=True, eq=False)
class Generation:
    """Keep one release's folder (symlinks resolved) and settings for every respawn."""

    spec: str  # package.module:Name
    folder: str
    cfg: Any  # gunicorn.config.Config, which is not typed
    document: Document  # the project's own part of the YAML file
    addresses: Mapping[str, Address]  # by listener name
    logs: Mapping[str, Any]  # logging.yaml in dictConfig's form; empty without one

    def enter(self) -> None:
        """Make the release folder the working directory and the first place of imports."""
        os.chdir(self.folder)
        if self.folder in sys.path:
            sys.path.remove(self.folder)
        sys.path.insert(0, self.folder)


def split(spec: str) -> tuple[str, str]:
    """Return module and name; raises ConfigError when either is missing."""
    module, _, name = spec.partition(":")
    if not module or not name.isidentifier():
        raise ConfigError(f"{spec!r} names no Container: write MODULE:NAME, as in hello:Container")
    return module, name
