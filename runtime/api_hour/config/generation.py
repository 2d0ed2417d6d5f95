"""A generation: the release folder and the parsed configuration that workers start from.

It is fixed when it is read, at the start or at HUP: a worker that is replaced later gets the same
code and the same settings as its siblings, even if the files have changed in between.
"""

import os
import ssl
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api_hour.config.addresses import ListenerSettings
from api_hour.config.yaml_document import Document
from api_hour.exceptions import ConfigError
from api_hour.privileges import ROOT


@dataclass(frozen=True, eq=False)
class Generation:
    """One release and its settings. Compared by identity: two reads are two generations."""

    spec: str  # package.module:Name
    folder: str  # of the release, symbolic links resolved
    cfg: Any  # gunicorn.config.Config, which is not typed
    document: Document  # the project's own part of the YAML file
    listeners: Mapping[str, ListenerSettings]  # by name
    tls: Mapping[str, ssl.SSLContext]  # by listener name, for those that have a certificate
    logs: Mapping[str, Any]  # logging.yaml in dictConfig's form; empty without one
    warnings: Sequence[str] = ()  # one line for each setting that has no effect
    origin: str = ""  # the files that were read, or that there are none
    trusted: frozenset[int] = frozenset([ROOT])  # users whose word root takes
    veiled: Mapping[str, Any] = field(default_factory=dict)  # settings that an error shows so

    def enter(self) -> None:
        """Make the release folder the working directory and the first entry of ``sys.path``."""
        os.chdir(self.folder)
        if self.folder in sys.path:
            sys.path.remove(self.folder)
        sys.path.insert(0, self.folder)


def split(spec: str) -> tuple[str, str]:
    """Return module and name of MODULE:NAME; raises ConfigError if either is missing."""
    module, _, name = spec.partition(":")
    if not module or not name.isidentifier():
        raise ConfigError(f"{spec!r} names no Container: write MODULE:NAME, as in hello:Container")
    return module, name
