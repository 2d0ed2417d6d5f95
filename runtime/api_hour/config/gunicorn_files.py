"""What Gunicorn opens and gives away by name, and here by the rule of ``owned_files``.

Gunicorn's logger and its file of the heartbeats follow links, and ``chown`` whatever stands at the
name by then.
"""

import os
import sys
import tempfile
import time
from typing import Any

from gunicorn import glogging
from gunicorn.workers import base

from api_hour.logs import files

_set_stream = glogging.Logger._set_handler


def install() -> None:
    """Replace that in Gunicorn, for a ``logger_class`` of an operator as well."""
    glogging.Logger._set_handler = _set_handler
    glogging.Logger.reopen_files = _capture_output
    glogging.open = files.open_log  # of capture_output
    base.WorkerTmp = Heartbeats


def _set_handler(self: Any, log: Any, output: str | None, fmt: Any, stream: Any = None) -> None:
    """Install the handler of a log, instead of the one before."""
    if output is None or output == "-":
        _set_stream(self, log, output, fmt, stream)
        return
    handler = files.LogFile(output)
    handler.setFormatter(fmt)
    handler.__dict__["_gunicorn"] = True  # the mark that Gunicorn sets itself
    _set_stream(self, log, None, fmt)
    log.addHandler(handler)


def _capture_output(self: Any) -> None:
    """Open the file of capture_output again; ``logs.setup`` does so for those of handlers."""
    if not self.cfg.capture_output or self.cfg.errorlog == "-":
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with self.lock:
        old, self.logfile = self.logfile, files.open_log(self.cfg.errorlog)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(self.logfile.fileno(), stream.fileno())
        if old is not None:
            old.close()


class Heartbeats:
    """A file without a name, whose time says when its worker's loop last turned."""

    def __init__(self, cfg: Any) -> None:
        self._file = tempfile.TemporaryFile(buffering=0, dir=cfg.worker_tmp_dir)  # noqa: SIM115
        if (cfg.uid, cfg.gid) != (os.geteuid(), os.getegid()):
            os.fchown(self._file.fileno(), cfg.uid, cfg.gid)  # only an owner may set the time

    def notify(self) -> None:
        """Show that the loop turns."""
        now = time.monotonic()
        os.utime(self._file.fileno(), (now, now))

    def last_update(self) -> float:
        """Return when ``notify`` was called last, in the monotonic clock."""
        return os.fstat(self._file.fileno()).st_mtime

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._file.fileno()

    def close(self) -> None:
        """Close the file, of which this was the last name."""
        self._file.close()
