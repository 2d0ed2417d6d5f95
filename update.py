"""Merge what is new in this template into a project that was generated from it: its `make update`.

It runs in the project's folder, from a clone of the template. The rendering of the commit that the
project came from is the merge base of two trees: the project's, and the rendering of this clone's
commit with the same answers. git does the merge, and shows what it cannot merge.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

TEMPLATE = Path(__file__).parent
SHOWN = 5  # of the files that are in the way
KEPT = ".api-hour.json"  # where the project keeps template, commit and answers
BRANCH = "api-hour/template"  # what the template alone would make of the answers
Environment = dict[str, str]


class UpdateError(Exception):
    """Say what is in the way."""


def main() -> None:
    """Update the project in the working directory."""
    try:
        update(Path.cwd())
    except UpdateError as error:
        sys.exit(f"make update: {error}")


def update(project: Path) -> None:
    """Merge; raises UpdateError: then nothing was touched, or git shows the conflicts."""
    refuse_unclean(project)
    origin = json.loads((project / KEPT).read_text())
    base, newer = origin["commit"], git(TEMPLATE, "rev-parse", "HEAD")
    refuse_unknown(origin)
    if base == newer:
        print(f"Nothing to do: the project is as new as its template, {newer[:12]}")
        return
    with TemporaryDirectory() as place:
        trees = [render(origin, commit, Path(place, commit)) for commit in (base, newer)]
        first = keep(project, trees[0], f"The template at {base}")
        second = keep(project, trees[1], f"Update the template to {newer[:12]}", "-p", first)
    git(project, "branch", "--quiet", "--force", BRANCH, second)
    merge(project, second)
    print(f"The project is at {newer[:12]} of its template, by one commit. Next: make check test")
    if git(TEMPLATE, "diff", "--name-only", base, newer, "--", "runtime"):
        print("The runtime is newer, too: before that, rm wheels/api_hour_runtime-*.whl")


def refuse_unclean(project: Path) -> None:
    """Let nothing be merged into what git could not bring back."""
    try:
        top = git(project, "rev-parse", "--show-toplevel")
    except UpdateError:
        top = ""
    if not top or not project.samefile(top):
        raise UpdateError("this folder is no git repository: git init, and commit all, first")
    # The verb itself may have built the runtime's wheel just now.
    changes = git(project, "status", "--porcelain", "--", ".", ":!wheels").splitlines()
    if changes:
        more = [f"and {len(changes) - SHOWN} more"] if len(changes) > SHOWN else []
        said = "there are changes that are not committed: commit them, or stash them with"
        raise UpdateError("\n".join([f"{said} --include-untracked", *changes[:SHOWN], *more]))


def refuse_unknown(origin: dict[str, Any]) -> None:
    """Let nothing be merged without its merge base."""
    base = origin["commit"]
    if not base:
        raise UpdateError(f"{KEPT} names no commit: the template was no git repository then")
    try:
        git(TEMPLATE, "cat-file", "-e", f"{base}^{{commit}}")
    except UpdateError:
        raise UpdateError(f"{origin['template']} does not know the commit {base}") from None


def render(origin: dict[str, Any], commit: str, place: Path) -> Path:
    """Return the folder that a commit of the template makes of the project's answers."""
    place.mkdir()
    own = {name: str(place / name) for name in ("cookiecutters_dir", "replay_dir")}
    answers = origin["answers"] | {"_origin": origin["template"]}
    settings = place / "settings.yaml"  # JSON is YAML
    settings.write_text(json.dumps({"default_context": answers, **own}))
    git(TEMPLATE, "checkout", "--quiet", "--detach", commit)
    command = [sys.executable, "-m", "cookiecutter", "--no-input", f"--config-file={settings}"]
    # Bytecode of the other commit, of the same second and size, would be taken for this one's.
    run(
        [*command, f"--output-dir={place / 'out'}", str(TEMPLATE)], {"PYTHONDONTWRITEBYTECODE": "1"}
    )
    (tree,) = (place / "out").iterdir()
    return tree


def keep(project: Path, tree: Path, message: str, *parents: str) -> str:
    """Commit a folder into the project's repository, apart from all its branches."""
    index = {"GIT_INDEX_FILE": f"{tree}.index", "GIT_WORK_TREE": str(tree)}
    git(project, "add", "--all", "--force", ".", **index)
    return git(project, "commit-tree", git(project, "write-tree", **index), "-m", message, *parents)


def merge(project: Path, commit: str) -> None:
    """Pick a commit: its parent is the merge base, and stays out of the project's history."""
    try:
        git(project, "cherry-pick", commit)
    except UpdateError:
        if not git(project, "ls-files", "--unmerged"):
            raise
        raise UpdateError(
            "there are conflicts, which git status lists: resolve them, git add the files and "
            "git cherry-pick --continue; or git cherry-pick --abort takes all of it back"
        ) from None


def git(folder: Path, *arguments: str, **environment: str) -> str:
    """Run git; return what it said; raises UpdateError."""
    return run(["git", "-C", str(folder), *arguments], environment)


def run(command: list[str], environment: Environment) -> str:
    """Run a program; return what it said; raises UpdateError with its last line."""
    result = subprocess.run(  # noqa: S603 - git or cookiecutter
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if result.returncode:
        said = (result.stderr or result.stdout).strip().splitlines() or [str(result.returncode)]
        raise UpdateError(f"{' '.join(command[:3])} failed: {said[-1]}")
    return result.stdout.rstrip()


if __name__ == "__main__":
    main()
