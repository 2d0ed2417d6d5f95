"""Remove the files that were not chosen, and print the next commands.

``FILES`` names every file of the template that depends on an answer; all others always stay. Where
two answers need very different contents, the template has a file for each instead of one with tags;
the project keeps one of them, under a name without the answer.
"""

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

Answers = Mapping[str, tuple[str | bool, ...]]


class File(NamedTuple):
    """A file that stays if each of its options has one of its answers."""

    path: str
    answers: Answers
    name: str | None = None  # in the project, if it is not the template's
    enough: Callable[[Iterable[bool]], bool] = all  # `any`: one of its options has one


CONTAINER: Answers = {"container": (True,)}
SYSTEMD: Answers = {"systemd": (True,)}
GITHUB: Answers = {"ci": ("github",)}
GITLAB: Answers = {"ci": ("gitlab",)}
CI: Answers = {"ci": ("github", "gitlab")}
DATABASE: Answers = {"database": ("aiopg", "asyncpg")}
NO_DATABASE: Answers = {"database": ("none",)}

FILES = (
    File(".dockerignore", CONTAINER),
    File("Dockerfile", CONTAINER),
    File("deploy/kubernetes/base/deployment.yaml", CONTAINER),
    File("deploy/kubernetes/base/kustomization.yaml", CONTAINER),
    File("deploy/kubernetes/base/migration.yaml", {**CONTAINER, **DATABASE}),
    File("deploy/kubernetes/base/network.yaml", CONTAINER),
    File("deploy/kubernetes/base/scaling.yaml", CONTAINER),
    File("deploy/kubernetes/production/kustomization.yaml", CONTAINER),
    File("etc/<<cookiecutter.project_slug>>/kustomization.yaml", CONTAINER),
    File("etc/systemd/system/<<cookiecutter.project_slug>>-admin.socket", SYSTEMD),
    File("etc/systemd/system/<<cookiecutter.project_slug>>.service", SYSTEMD),
    File("etc/systemd/system/<<cookiecutter.project_slug>>.socket", SYSTEMD),
    File(".github/workflows/ci.yml", GITHUB),
    File(".gitlab-ci.yml", GITLAB),
    File("deploy/pin.py", {**CONTAINER, **CI}, enough=any),
    File("<<cookiecutter.project_slug>>/endpoints/records.py", DATABASE),
    File("<<cookiecutter.project_slug>>/engines/__init__.py", DATABASE),
    File("<<cookiecutter.project_slug>>/engines/postgresql.py", DATABASE),
    File("<<cookiecutter.project_slug>>/migrations/0001_records.sql", DATABASE),
    File("<<cookiecutter.project_slug>>/services/__init__.py", DATABASE),
    File("<<cookiecutter.project_slug>>/services/records.py", DATABASE),
    File("tests/conftest_database.py", DATABASE, "conftest.py"),
    File("tests/conftest_none.py", NO_DATABASE, "conftest.py"),
    File("tests/test_records.py", DATABASE),
    File("tests/test_services.py", DATABASE),
)


def main() -> None:
    """Finish the project in the working directory."""
    project = Path.cwd()
    chosen = json.loads(r"""<< cookiecutter | tojson >>""")
    try:
        keep_chosen(project, chosen)
    except OSError as error:
        sys.exit(f"Cannot remove the files that were not chosen: {error}")
    print(f"""
{project.name} is ready. Next:

    cd {shlex.quote(str(project))}
    make run     # serves it with live reload
    make help    # lists the other verbs
""")


def keep_chosen(project: Path, chosen: Mapping[str, str | bool]) -> None:
    """Remove each file of ``FILES`` that was not chosen, and give the others their names.

    Raises OSError, also if a file is missing.
    """
    for file in FILES:
        path = project / file.path
        if not file.enough(chosen[option] in answers for option, answers in file.answers.items()):
            remove(path)
        elif file.name:
            path.rename(path.with_name(file.name))


def remove(path: Path) -> None:
    """Remove a file, and each folder that it leaves empty."""
    path.unlink()
    for folder in path.parents:
        if any(folder.iterdir()):
            return
        folder.rmdir()


if __name__ == "__main__":
    main()
