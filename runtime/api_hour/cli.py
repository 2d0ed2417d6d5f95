"""The command ``api_hour``: load the configuration, then start the master."""

import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import IO, NoReturn

from api_hour.config import command_line
from api_hour.config.command_line import USAGE, UsageError
from api_hour.config.loader import BaseApplication, Loader
from api_hour.exceptions import ConfigError
from api_hour.logs.formatters import escape
from api_hour.master import reload_requests, reloader
from api_hour.master.arbiter import Arbiter
from api_hour.master.starter import Starter
from api_hour.worker.process import Worker


def main() -> NoReturn:
    """Run the command; an error that the operator can mend is one line and exit code 1 or 2."""
    _open_standard_streams()
    if sys.argv[1:2] == ["reload"]:
        sys.exit(reload_requests.main(sys.argv[2:]))
    try:
        if sys.argv[1:2] == ["openapi"]:
            _print_document(sys.argv[2:])
        else:
            _load(Worker).run()
    except UsageError as error:
        print(f"{USAGE}\napi_hour: error: {error}", file=sys.stderr)
        sys.exit(2)
    except (ConfigError, RuntimeError) as error:
        sys.exit(f"api_hour: error: {escape(str(error))}")  # it may quote what others wrote
    sys.exit(0)


def _print_document(arguments: Sequence[str]) -> None:
    """Print the document of an application, without serving it; raises ConfigError.

    Whatever the project, a hook or the master prints goes to stderr.
    """
    from api_hour.worker.document import DocumentWorker  # a daemon does not pay for it

    parser = ArgumentParser(
        prog="api_hour openapi",
        usage="api_hour openapi [OPTIONS] MODULE:CONTAINER [--listener NAME]",
        description="Print the OpenAPI document of a Container as JSON, without serving it: one "
        "worker boots on free addresses, as with --check. OPTIONS are those of api_hour.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--listener", metavar="NAME", help="whose server is asked, if several have a document"
    )
    given, rest = parser.parse_known_args(arguments)
    sys.argv[1:] = ["--check", *rest]
    DocumentWorker.listener = given.listener
    output = os.dup(1)
    os.dup2(2, 1)
    with _temporary_file() as file:
        DocumentWorker.file = file
        try:
            _load(DocumentWorker).run()
        except SystemExit as ended:
            if ended.code:
                raise
        for number in Worker.SIGNALS:  # the master's handlers only queue them
            signal.signal(number, signal.SIG_DFL)
        if not file.tell():
            raise ConfigError("api_hour openapi was ended before there was a document")
        file.seek(0)
        _copy(file, output)


def _temporary_file() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise ConfigError(
            f"the document needs a temporary file: {error.strerror}: let TMPDIR name a folder that "
            "this user may write to"
        ) from None


def _copy(file: IO[bytes], output: int) -> None:
    """Copy ``file`` to a descriptor, whose reader may leave before the end."""
    try:
        with open(output, "wb") as stdout:
            shutil.copyfileobj(file, stdout)
    except BrokenPipeError:
        pass
    except OSError as error:
        raise ConfigError(f"the document cannot be written: {error.strerror}") from None


def _load(worker_class: type[Worker]) -> "Command":
    """Read the configuration; with --reload a broken one is read again when it has changed."""
    start = os.getcwd()
    while True:
        begun = time.time()
        try:
            return Command(worker_class, prog="api_hour")
        except UsageError:
            raise
        except ConfigError as error:
            given, _ = command_line.parse(sys.argv[1:])
            here = os.getcwd()  # what chdir names
            os.chdir(start)
            config = given.get("config") or os.path.join(here, "gunicorn.conf.py")
            places = [given.get("config_dir") or os.path.join(here, "etc"), config]
            told = f"api_hour: error: {error}"
            if not given.get("reload") or not reloader.wait_for_change(places, begun, told):
                raise


def _open_standard_streams() -> None:
    """Open /dev/null for each of stdin, stdout and stderr that is closed (``2>&-`` in a shell).

    Otherwise a socket would get its number, and whatever is written to stderr would go there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process


class _Master(BaseApplication):  # type: ignore[misc]
    """The end of Gunicorn's Application.run(), with our Arbiter instead of Gunicorn's."""

    starter: Starter | None = None  # with --daemon

    def run(self) -> None:
        os.environ.pop("GUNICORN_FD", None)
        try:
            Arbiter(self).run()
        except ConfigError as error:
            if self.cfg.daemon:  # nobody reads stderr
                logging.getLogger("api_hour.master").critical("%s", error)
            if self.starter is not None:
                self.starter.tell(str(error))
            raise


class Command(Loader, _Master):
    """The application that Gunicorn runs.

    Gunicorn's Application.run() prints the configuration, daemonizes and so on, then calls
    ``super().run()``. The order of the bases decides what that is: ``_Master`` comes after
    Gunicorn's Application and before its BaseApplication.
    """

    def run(self) -> None:
        """Run; with --daemon the parent waits for the child that goes on, and exits."""
        if "GUNICORN_PID" in os.environ:  # of a successor, which is in the background already
            os.environ["GUNICORN_FD"] = ""  # by which Gunicorn knows that
        elif self.cfg.daemon and not (self.cfg.check_config or self.cfg.print_config):
            self.starter = Starter()
        super().run()
