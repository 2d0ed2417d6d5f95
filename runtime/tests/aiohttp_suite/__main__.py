"""Run aiohttp's own tests against API-Hour's connections, and print what differs.

``make test-aiohttp`` runs them three times: against aiohttp, against our connections, and against
those with the fast path. The tests are those of the installed version of aiohttp, from its source
distribution, which is kept with an environment of its own in ``$XDG_CACHE_HOME/api-hour-tests``. A
test that passes with aiohttp and fails with ours, twice, must be named in ``deviations.toml``.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections import Counter
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
RUNTIME = HERE.parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "api-hour-tests"
PATHS = ("plain", "fast")
# Those that start a server, and what belongs to it; the others test the client and the parser.
MODULES = (
    *("client_functional", "client_middleware", "client_middleware_digest_auth", "client_session"),
    *("client_ws_functional", "connector", "formdata", "proxy_functional", "run_app", "test_utils"),
    *("web_app", "web_exceptions", "web_functional", "web_log", "web_middleware"),
    *("web_request_handler", "web_runner", "web_sendfile_functional", "web_server"),
    *("web_urldispatcher", "web_websocket_functional"),
)
Outcomes = dict[str, str]


def main() -> None:
    """Run the tests; exit with 1 for a difference that has no reason."""
    parser = argparse.ArgumentParser(prog="make test-aiohttp", description=__doc__)
    parser.add_argument("--only", metavar="MODULE", help="as in: --only web_functional")
    only = parser.parse_args().only
    version = metadata.version("aiohttp")
    suite, python = _tests(version), _environment(version)
    files = [f"tests/test_{module}.py" for module in ([only] if only else MODULES)]
    stock = _run(python, suite, "stock", files)
    lists = tomllib.loads((HERE / "deviations.toml").read_text())
    unexplained = False
    for path in PATHS:
        outcomes = _run(python, suite, path, files)
        differing = _worse(stock, outcomes)
        if differing:  # once more, by themselves: a busy machine fails tests of time
            differing = _worse(stock, _run(python, suite, path, differing))
        known = lists["both"] | lists.get(path, {})
        unexplained |= _tell(path, differing, known)
        if not only and (unknown := {f"tests/{name}" for name in known} - set(stock)):
            sys.exit(f"deviations.toml names no test of aiohttp {version}: {sorted(unknown)}")
    sys.exit(1 if unexplained else 0)


def _tell(path: str, differing: list[str], known: dict[str, str]) -> bool:
    """Print the tests that differ; return whether one of them has no reason."""
    print(f"{path}: {len(differing)} tests fail that pass with aiohttp")
    reasons = {test: known.get(test.removeprefix("tests/")) for test in differing}
    for test, reason in reasons.items():
        print(f"  {test}\n      {reason or 'NOT IN deviations.toml'}")
    return None in reasons.values()


def _worse(stock: Outcomes, outcomes: Outcomes) -> list[str]:
    """Return the tests that fail, and pass with aiohttp."""
    failed = (test for test, outcome in outcomes.items() if outcome == "failed")
    return sorted(test for test in failed if stock.get(test) == "passed")


def _run(python: Path, suite: Path, connections: str, tests: list[str]) -> Outcomes:
    """Run tests with those connections, and return their outcomes."""
    file = suite / f"{connections}.json"
    file.unlink(missing_ok=True)
    command: list[str | Path] = [
        *(python, "-m", "pytest"),
        *("-q", "-o", "addopts=", "-p", "no:cacheprovider"),
        *("-m", "not dev_mode and not autobahn and not internal", "--tb=no", "-p", "plugin"),
        *("-n", "2", "--connections", connections),
        *("--outcomes", str(file), *tests),
    ]
    environment = os.environ | {"PYTHONPATH": f"{RUNTIME}{os.pathsep}{HERE}"}
    subprocess.run(command, cwd=suite, env=environment, stdout=subprocess.DEVNULL, check=False)
    if not file.exists():
        sys.exit(f"pytest wrote no outcomes for {connections}: {' '.join(map(str, command))}")
    outcomes: Outcomes = json.loads(file.read_text())
    counts = ", ".join(f"{count} {name}" for name, count in Counter(outcomes.values()).items())
    print(f"{connections}: {len(outcomes)} tests: {counts}", flush=True)
    return outcomes


def _tests(version: str) -> Path:
    """Return the folder with aiohttp's tests, without its package: the installed one is meant."""
    folder = CACHE / f"aiohttp-{version}-tests"
    if not folder.exists():
        archive = CACHE / f"aiohttp-{version}.tar.gz"
        if not archive.exists():
            print(f"Fetching the tests of aiohttp {version} into {CACHE}", flush=True)
            CACHE.mkdir(parents=True, exist_ok=True)
            download = "download", "-q", "--no-deps", "--no-binary", "aiohttp", "-d", CACHE
            _pip(Path(sys.executable), *download, f"aiohttp=={version}")
        unpacked = CACHE / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        with tarfile.open(archive) as source:
            source.extractall(unpacked, filter="data")
        shutil.rmtree(unpacked / f"aiohttp-{version}" / "aiohttp")
        (unpacked / f"aiohttp-{version}").rename(folder)
    return folder


def _environment(version: str) -> Path:
    """Return the interpreter of an environment that has what the tests need."""
    requirements = HERE / "requirements.txt"
    ours = metadata.requires("api-hour-runtime") or []
    needed = [f"aiohttp=={version}", *(line for line in ours if "extra ==" not in line)]
    state = "\n".join((sys.version, *needed, requirements.read_text()))
    folder = CACHE / f"venv-{hashlib.sha256(state.encode()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    done = folder / "complete"
    if not done.exists():
        print(f"Installing what aiohttp's tests need into {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        _pip(python, "install", "-q", "-r", requirements, *needed)
        done.touch()
    return python


def _pip(python: Path, *arguments: str | Path) -> None:
    pip = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    subprocess.run(pip, check=True)


if __name__ == "__main__":
    main()
