"""Pin the images and the actions that files name to what their tags mean today.

``python:3.13-slim`` becomes ``python:3.13-slim@sha256:...``, and ``uses: actions/checkout@v6`` the
commit of that tag with the tag behind it. Both are the same forever; a tag may be moved by anybody
who can push to its repository. Registries and GitHub are asked as a client without an account.
Either everything in all files is pinned, or nothing is changed.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import NoReturn
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

TIMEOUT = 30  # seconds for one answer
# After a keyword of Dockerfiles, or a key or dash of YAML: an image with its tag and its digest.
IMAGE = re.compile(
    r"^(\s*(?:FROM(?: +--\S+)*|image:|-) +)"
    r"([\w./-]+(?::\d+/[\w./-]+)?:[\w.-]+)(@sha256:\w+)?(?!\S)",
    re.MULTILINE,
)
# An action of GitHub with its tag, or with a commit and the tag in a comment.
ACTION = re.compile(
    r"^([ -]*uses: +)([\w.-]+/[\w./-]+)@(?:[0-9a-f]{40} +# *)?"
    r"(?![0-9a-f]{40})(v?\d[\w.-]*)(?!\S)",
    re.MULTILINE,
)
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


def main() -> None:
    """Pin what the files of the command line name."""
    texts = {}
    for path in map(Path, sys.argv[1:]):
        text = IMAGE.sub(lambda found: f"{found[1]}{found[2]}@{digest(found[2])}", path.read_text())
        texts[path] = ACTION.sub(
            lambda found: f"{found[1]}{found[2]}@{commit(found[2], found[3])} # {found[3]}", text
        )
    for path, text in texts.items():
        path.write_text(text)


@cache
def digest(image: str) -> str:
    """Return the digest of what a tag names, for all platforms at once where there are several."""
    url = manifest_url(image)
    try:
        try:
            kind, manifest = get(url)
        except HTTPError as error:
            if error.code != 401:
                raise
            kind, manifest = get(url, token(error.headers["WWW-Authenticate"] or ""))
        if kind not in MANIFESTS:
            raise ValueError(f"the answer is {kind or 'nothing'}, not a manifest")
    except (OSError, HTTPException, ValueError, KeyError) as error:
        fail(
            f"{url} does not tell the digest of {image}: {error}. Try again where the registry can"
            f" be reached, or write the digest yourself, as in {image}@sha256:..."
        )
    found = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    print(f"{image} is {found}")
    return found


@cache
def commit(action: str, tag: str) -> str:
    """Return the commit that a tag of an action's repository names."""
    url = "https://github.com/" + "/".join(action.split("/")[:2])
    names = (f"refs/tags/{tag}^{{}}", f"refs/tags/{tag}")  # the first is what a tag object names
    command = ["git", "ls-remote", url, *names]
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}  # asks for no password
    try:
        result = subprocess.run(  # noqa: S603 - a tag begins with a digit or with v, not with a dash
            command, env=environment, capture_output=True, text=True, check=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip()
        fail(f"{url} does not tell the commit of {tag}: {said}")
    commits = {name: found for found, name in map(str.split, result.stdout.splitlines())}
    if not (known := [commits[name] for name in names if name in commits]):
        fail(f"{url} has no tag {tag}")
    print(f"{action} {tag} is {known[0]}")
    return known[0]


def fail(reason: str) -> NoReturn:
    """End; no file is written before everything is known."""
    sys.exit(f"make pin: nothing was changed, because {reason}")


def manifest_url(image: str) -> str:
    """Return where the API of a registry has an image. Docker Hub's names may be abbreviated."""
    name, tag = image.rsplit(":", 1)
    host, _, path = name.partition("/")
    if not path or not re.search(r"[.:]|^localhost$", host):
        host, path = "docker.io", name
    if host == "docker.io":
        host = "registry-1.docker.io"
        path = path if "/" in path else f"library/{path}"
    scheme = "http" if re.match(r"(localhost|127\.0\.0\.1)(:|$)", host) else "https"
    return f"{scheme}://{host}/v2/{path}/manifests/{tag}"


def token(challenge: str) -> str:
    """Return the token that a registry's challenge (RFC 6750) offers to everybody."""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = asked.pop("realm")
    if not re.match(r"https://|http://(localhost|127\.0\.0\.1)[:/]", realm):
        raise ValueError(f"it wants a login at {realm!r}")
    answer = json.loads(get(f"{realm}?{urlencode(asked)}")[1])
    return str(answer.get("token") or answer["access_token"])


def get(url: str, token: str = "") -> tuple[str, bytes]:
    """Return the type and the body of an answer."""
    headers = {"Accept": ", ".join(MANIFESTS)}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as answer:  # noqa: S310 - HTTP
        return answer.headers.get_content_type(), answer.read()


if __name__ == "__main__":
    main()
