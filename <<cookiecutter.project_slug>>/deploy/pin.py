"""Pin the images that files name to what their tags mean today.

``python:3.13-slim`` becomes ``python:3.13-slim@sha256:...``, which is the same image forever; a tag
may be moved by anybody who can push to its repository. The registry is asked as a client without an
account. Either all images of all files are pinned, or nothing is changed.
"""

import hashlib
import json
import re
import sys
from http.client import HTTPException
from pathlib import Path
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
MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


def main() -> None:
    """Pin what the files of the command line name."""
    texts = {Path(name): Path(name).read_text() for name in sys.argv[1:]}
    images = {found[1] for text in texts.values() for found in IMAGE.findall(text)}
    digests = {image: digest(image) for image in sorted(images)}
    for path, text in texts.items():
        path.write_text(IMAGE.sub(lambda found: f"{found[1]}{found[2]}@{digests[found[2]]}", text))
    for image in digests:
        print(f"{image} is {digests[image]}")


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
        sys.exit(
            f"make pin: nothing was changed, because {url} does not tell the digest of {image}:"
            f" {error}. Try again where the registry can be reached, or write the digest yourself,"
            f" as in {image}@sha256:..."
        )
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


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
