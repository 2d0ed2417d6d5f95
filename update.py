"""Merge changes of this template into a project that was generated from it: ``make update``.

The program runs in the project's folder, from a clone of the template. It renders two commits with
the project's answers: the one that generated the project, and the clone's. The first rendering is
the merge base, the second one is merged into the project's branch. git does the merge, and shows
conflicts as usual.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

TEMPLATE = Path(__file__).parent
SHOWN = 5  # uncommitted files that a refusal lists
ORIGIN = ".api-hour.json"  # the project's record of template, commit and answers
BRANCH = "api-hour/template"  # the newest rendering, without the project's own changes
Environment = dict[str, str]


class UpdateError(Exception):
    """A reason not to update."""


def main() -> None:
    """Update the project in the working directory."""
    try:
        update(Path.cwd())
    except UpdateError as error:
        sys.exit(f"make update: {error}")


def update(project: Path) -> None:
    """Merge. Raises UpdateError, after which the project is untouched or git shows conflicts."""
    refuse_unclean(project)
    origin = json.loads((project / ORIGIN).read_text())
    base, newer = origin["commit"], git(TEMPLATE, "rev-parse", "HEAD")
    refuse_unknown(origin)
    if base == newer:
        print(f"Nothing to do: the project is up to date with its template, {newer[:12]}")
        return
    with TemporaryDirectory() as folder:
        trees = [render(origin, commit, Path(folder, commit)) for commit in (base, newer)]
        before = commit_tree(project, trees[0], f"The template at {base}")
        after = commit_tree(project, trees[1], f"Update the template to {newer[:12]}", "-p", before)
    git(project, "branch", "--quiet", "--force", BRANCH, after)
    merge(project, after)
    print(f"One commit updated the project to {newer[:12]} of its template. Next: make check test")
    if git(TEMPLATE, "diff", "--name-only", base, newer, "--", "runtime"):
        print("The runtime changed too: first run rm wheels/api_hour_runtime-*.whl")


def refuse_unclean(project: Path) -> None:
    """Raise UpdateError if git could not undo the merge."""
    try:
        git(project, "rev-parse", "--show-toplevel")
    except UpdateError as error:
        if "not a git repository" not in str(error):  # but one of another user, say
            raise
        cure = "run git init and commit all first"
        raise UpdateError(f"this folder is not in a git repository: {cure}") from None
    # This make may just have built the runtime's wheel.
    changes = git(project, "status", "--porcelain", "--", ".", ":!wheels").splitlines()
    if not changes and not git(project, "ls-files", "--", ORIGIN):
        raise UpdateError(
            f"the repository {git(project, 'rev-parse', '--show-toplevel')} ignores this folder: "
            "run git init here, or mend its .gitignore, and commit all first"
        )
    # Elsewhere in the repository only what is staged could end up in the commit.
    staged = git(project, "diff", "--cached", "--name-status", "--", ":/").splitlines()
    changes = changes or [line.replace("\t", "  ", 1) for line in staged]
    if changes:
        more = [f"and {len(changes) - SHOWN} more"] if len(changes) > SHOWN else []
        cure = "commit them, or stash them with --include-untracked"
        lines = [f"there are uncommitted changes: {cure}", *changes[:SHOWN], *more]
        raise UpdateError("\n".join(lines))


def refuse_unknown(origin: dict[str, Any]) -> None:
    """Raise UpdateError if the merge base cannot be rendered."""
    base = origin["commit"]
    if not base:
        raise UpdateError(f"{ORIGIN} has no commit: the template was not a git repository then")
    try:
        git(TEMPLATE, "cat-file", "-e", f"{base}^{{commit}}")
    except UpdateError:
        raise UpdateError(f"{origin['template']} does not have the commit {base}") from None


def render(origin: dict[str, Any], commit: str, folder: Path) -> Path:
    """Return the project that a commit of the template generates from the same answers."""
    folder.mkdir()
    own = {name: str(folder / name) for name in ("cookiecutters_dir", "replay_dir")}
    answers = origin["answers"] | {"_origin": origin["template"]}
    settings = folder / "settings.yaml"  # JSON is YAML
    settings.write_text(json.dumps({"default_context": answers, **own}))
    git(TEMPLATE, "checkout", "--quiet", "--detach", commit)
    command = [sys.executable, "-m", "cookiecutter", "--no-input", f"--config-file={settings}"]
    command += [f"--output-dir={folder / 'out'}", str(TEMPLATE)]
    # Bytecode cached for one commit could pass for the other's: Python compares time and size only.
    run(command, {"PYTHONDONTWRITEBYTECODE": "1"})
    (tree,) = (folder / "out").iterdir()
    return tree


def commit_tree(project: Path, tree: Path, message: str, *parents: str) -> str:
    """Commit a folder to the project's repository, outside its branches; return the commit.

    In a repository that holds more than the project, the rest is what HEAD has: to the merge it did
    not change, and is nothing to which a file of the project could have been renamed.
    """
    index = {"GIT_INDEX_FILE": f"{tree}.index"}
    git(project, "add", "--all", "--force", ".", **index, GIT_WORK_TREE=str(tree))
    content = git(project, "write-tree", **index)
    if place := git(project, "rev-parse", "--show-prefix"):
        git(project, "read-tree", "HEAD", **index)
        git(project, "rm", "-r", "--cached", "--quiet", "--force", ".", **index)
        git(project, "read-tree", f"--prefix={place}", content, **index)
        content = git(project, "write-tree", **index)
    return git(project, "commit-tree", content, "-m", message, *parents)


def merge(project: Path, commit: str) -> None:
    """Cherry-pick a commit: its parent is the merge base, which stays out of the history."""
    added = ("diff", "--name-only", "-z", "--no-renames", "--diff-filter=A", f"{commit}^", commit)
    root = Path(git(project, "rev-parse", "--show-toplevel"))
    files = [root / name for name in git(project, *added).split("\0") if name]
    absent = [file for file in files if not file.exists()]
    try:
        git(project, "cherry-pick", commit)
    except UpdateError:
        if not git(project, "ls-files", "--unmerged"):
            undo(project, commit, absent)
            raise
        raise UpdateError(
            "there are conflicts, which git status lists: resolve them, git add the files and run "
            "git cherry-pick --continue, or undo the update with git cherry-pick --abort"
        ) from None


def undo(project: Path, commit: str, absent: list[Path]) -> None:
    """Take back half a merge: the disk is full, say, or git cannot sign the commit."""
    with suppress(UpdateError):  # git may have noted the cherry-pick, or not
        if git(project, "rev-parse", "--verify", "CHERRY_PICK_HEAD") == commit:
            git(project, "cherry-pick", "--abort")
    git(project, "checkout", "--force", "HEAD", "--", ".")
    for path in absent:
        path.unlink(missing_ok=True)


def git(folder: Path, *arguments: str, **environment: str) -> str:
    """Run git and return its output, in English. Raises UpdateError."""
    return run(["git", "-C", str(folder), *arguments], {"LC_ALL": "C"} | environment)


def run(command: list[str], environment: Environment) -> str:
    """Run a program and return its output. Raises UpdateError with the reason."""
    result = subprocess.run(  # noqa: S603 - git or cookiecutter
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if result.returncode:
        lines = (result.stderr or result.stdout).strip().splitlines() or [str(result.returncode)]
        reason = next((line for line in lines if line.startswith("error: ")), lines[-1])
        raise UpdateError(f"{' '.join(command[:3])} failed: {reason}")
    return result.stdout.rstrip()


if __name__ == "__main__":
    main()
