"""What the template generates, and which answers it refuses."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import docutils.core
import docutils.nodes
import pytest
import yaml
from cookiecutter.exceptions import FailedHookException
from openapi_spec_validator import OpenAPIV31SpecValidator

from api_hour.config import logging_yaml, yaml_document
from testkit.projects import DATABASES, PRODUCT, ROOT, bake, git

# The files of a project by answer, written independently of the hook's table.
ALWAYS = """
    .api-hour.json .env.example .gitattributes .gitignore Makefile README.rst openapi.json
    pyproject.toml
    deploy/install.sh
    etc/hello/gunicorn.conf.py etc/hello/logging.yaml etc/hello/main.yaml
    hello/__init__.py hello/container.py hello/routes.py hello/settings.py
    hello/endpoints/__init__.py hello/endpoints/health.py hello/endpoints/index.py
    tests/__init__.py tests/conftest.py tests/test_daemon.py tests/test_endpoints.py
    tests/test_openapi.py
"""
WITH_DATABASE = """
    hello/endpoints/records.py
    hello/engines/__init__.py hello/engines/postgresql.py
    hello/migrations/0001_records.sql
    hello/services/__init__.py hello/services/records.py
    tests/test_records.py tests/test_services.py
"""
WITH_CONTAINER = """
    .dockerignore Dockerfile
    deploy/kubernetes/base/deployment.yaml deploy/kubernetes/base/kustomization.yaml
    deploy/kubernetes/base/network.yaml deploy/kubernetes/base/scaling.yaml
    deploy/kubernetes/production/kustomization.yaml
    etc/hello/kustomization.yaml
"""
WITH_BOTH = "deploy/kubernetes/base/migration.yaml"
WITH_SYSTEMD = """
    etc/systemd/system/hello-admin.socket
    etc/systemd/system/hello.service
    etc/systemd/system/hello.socket
"""
CI = {"github": ".github/workflows/ci.yml", "gitlab": ".gitlab-ci.yml", "none": ""}
PLACEHOLDERS = {"aiopg": "VALUES (%s)", "asyncpg": "VALUES ($1)"}
TAGS = ("<<", ">>", "<%", "%>", "<#", "#>", "cookiecutter.", "cookiecutter |")
LONGEST_SLUG = "a_name_of_forty_characters_in_lower_case"
HOSTILE = {
    "double quote": 'Say "hello"',
    "apostrophe": "It's",
    "backslash": "back\\slash \\",
    "triple quotes": "\"\"\" '''",
    "non-ASCII": "Grüße 世界 🚀",
    "make": "$(shell id) ${HOME} # $",
    "shell": "`id` $(id); & | > /dev/null",
    "braces": "{{ 7*7 }} {% x %} ${{ y }} %s %(x)s {0}",
    "reStructuredText": "*a* **b** `c` ``d`` |e| f_ __g [1]_ :x:`y`",
    "bullet": "- item",
    "enumeration": "1. item",
    "directive": ".. note:: item",
    "literal block": "code::",
    "rule": "====",
    "YAML": "a: b # c",
    "TOML": "]] = [",
}
REFUSED_SLUGS = {
    "Hello": "Python name",
    "3d": "Python name",
    "my-app": "Python name",
    "my app": "Python name",
    "größe": "Python name",
    "hello_": "Python name",
    "_hello": "Python name",
    "../hello": "Python name",
    "a" * 41: "at most 40 characters, has 41",
    "class": "keyword",
    "json": "standard library",
    "test": "standard library",
    "aiohttp": "package that the project uses",
    "api_hour": "package that the project uses",
    "yaml": "package that the project uses",
    "psycopg2": "package that the project uses",
    "pytest": "package that the project uses",
    "tests": "folder",
    "deploy": "folder",
    "wheels": "folder",
    "null": "YAML",
    "on": "YAML",
}
REFUSED_LINES = {
    "two\nlines": "printable",
    "nul\0": "printable",
    "bell\a": "printable",
    "line\u2028separator": "printable",
    "right\u202eto left": "printable",
    " space before": "space",
    "space after ": "space",
    "x" * 101: "at most 100 characters, has 101",
}


@pytest.fixture(scope="module", params=PRODUCT, ids=lambda choice: " ".join(choice.values()))
def options(request: pytest.FixtureRequest) -> dict[str, str]:
    """Return one combination of answers, of all there are."""
    return dict(request.param)


@pytest.fixture(scope="module")
def project(options: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bake one combination of answers."""
    return bake(tmp_path_factory.mktemp("baked") / "out", **options)


def files(project: Path) -> list[Path]:
    """Return the generated files."""
    found = [path for path in sorted(project.rglob("*")) if path.is_file()]
    assert len(found) > 15
    return found


def test_a_project_has_the_files_of_its_answers(project: Path, options: dict[str, str]) -> None:
    expected = [ALWAYS, CI[options["ci"]]]
    if options["database"] != "none":
        expected.append(WITH_DATABASE)
    if options["container"] == "yes":
        expected.append(WITH_CONTAINER)
    if options["database"] != "none" and options["container"] == "yes":
        expected.append(WITH_BOTH)
    if options["container"] == "yes" or options["ci"] != "none":
        expected.append("deploy/pin.py")
    if options["systemd"] == "yes":
        expected.append(WITH_SYSTEMD)
    found = {str(path.relative_to(project)): path.stat().st_mode & 0o111 for path in files(project)}
    assert sorted(found) == sorted(" ".join(expected).split())
    assert [path for path, executable in found.items() if executable] == ["deploy/install.sh"]


@pytest.mark.parametrize("driver", PLACEHOLDERS)
def test_a_service_queries_as_the_driver_does(tmp_path: Path, driver: str) -> None:
    service = bake(tmp_path / "out", database=driver) / "hello" / "services" / "records.py"
    text = service.read_text()
    assert [name for name, found in PLACEHOLDERS.items() if found in text] == [driver]


def test_nothing_is_left_unrendered(project: Path) -> None:
    names = [str(path.relative_to(project)) for path in project.rglob("*")]
    texts = names + [path.read_text() for path in files(project)]
    assert [tag for tag in TAGS for text in texts if tag in text] == []


def test_every_file_is_tidy(project: Path) -> None:
    for path in files(project):
        text = path.read_text()
        assert re.fullmatch(r"\S(.*\S)?\n", text, re.DOTALL), path
        assert not re.search(r"[ \t]\n", text), path
        assert not re.search(r"\n{4}" if path.suffix == ".py" else r"\n{3}", text), path


def test_git_ignores_the_secrets_of_the_readme(tmp_path: Path) -> None:
    project = bake(tmp_path / "out")
    files = re.findall(r"--from-env-file=(\S+)", (project / "README.rst").read_text())
    assert files
    for file in (*files, ".env"):
        (project / file).write_text("DATABASE_URL=postgresql://user:password@host/database\n")
    git(project, "init", "--quiet")
    git(project, "add", ".")
    assert {".env", *files} & set(git(project, "ls-files").split()) == set()


def test_no_folder_is_empty(project: Path) -> None:
    folders = [path for path in project.rglob("*") if path.is_dir()]
    assert folders
    assert [path for path in folders if not any(path.iterdir())] == []


def test_a_project_stays_small(project: Path) -> None:
    code = [path for path in files(project) if path.suffix == ".py"]
    lines = [len(path.read_text().splitlines()) for path in code if "tests" not in path.parts]
    assert len(files(project)) <= 48
    assert len(code) <= 22
    assert sum(lines) < 550


TRACES = {
    "container": re.compile(r"docker|kube|kustom|make image|hadolint", re.IGNORECASE),
    "systemd": re.compile(r"systemd|systemctl|[.]service\b|hello[.]socket\b", re.IGNORECASE),
    "ci": re.compile(r"github|gitlab|workflow|pipeline", re.IGNORECASE),
}


def test_what_is_not_chosen_leaves_no_trace(project: Path, options: dict[str, str]) -> None:
    absent = [TRACES[name] for name in TRACES if options[name] in ("no", "none")]
    texts = {str(path.relative_to(project)): path for path in files(project)}
    # The choice itself, and what pins a Dockerfile, a pipeline or a workflow.
    either = {".api-hour.json", "deploy/pin.py"}
    found = [
        (name, pattern.pattern)
        for name, path in texts.items()
        for pattern in absent
        if name not in either and (pattern.search(name) or pattern.search(path.read_text()))
    ]
    assert found == []


def test_without_a_database_none_is_mentioned(tmp_path: Path) -> None:
    project = bake(tmp_path / "out", database="none")
    pattern = re.compile(
        r"postgres|aiopg|asyncpg|DATABASE_URL|records|migrat|sql|services", re.IGNORECASE
    )
    assert [path for path in files(project) if pattern.search(path.read_text())] == []


@pytest.mark.parametrize("slug", ["a", LONGEST_SLUG])
@pytest.mark.parametrize("database", DATABASES)
def test_formatting_and_linting_change_nothing(tmp_path: Path, database: str, slug: str) -> None:
    project = bake(tmp_path / "out", database=database, project_slug=slug)
    for tool in (["format", "--diff"], ["check"]):
        command = [sys.executable, "-m", "ruff", *tool, "--no-cache", "."]
        result = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr


def test_the_configuration_has_the_two_listeners_and_what_one_changes_first(project: Path) -> None:
    class Loader(yaml.SafeLoader):
        """A loader that reads the tag !env as text."""

    Loader.add_constructor("!env", Loader.construct_scalar)  # type: ignore[type-var]
    text = (project / "etc" / "hello" / "main.yaml").read_text()
    found = yaml.load(text, Loader)["api_hour"]  # noqa: S506 - a SafeLoader
    assert found == {
        "listeners": {
            "http": "tcp://127.0.0.1:8000",
            "admin": {"url": "tcp://127.0.0.1:8001", "hosts": []},
        },
        "workers": 2,
        "graceful_timeout": 30,
        "request_ids": True,
        "trusted_proxies": [],
        "access_log_skip": [],
        "metrics": True,
    }


@pytest.mark.parametrize("form", ["", "text", "json"])
def test_the_logs_can_be_set_up_in_either_form(
    project: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOG_FORMAT", raising=False)
    if form:
        monkeypatch.setenv("LOG_FORMAT", form)
    document = yaml_document.load(project / "etc" / "hello" / "logging.yaml")
    settings = logging_yaml.read(document, "hello")
    assert settings["handlers"]["console"]["formatter"] == (form or "text")
    assert settings["loggers"]["gunicorn.access"] == {"level": "INFO"}


def test_the_document_of_the_api_is_valid_and_has_the_routes(
    project: Path, options: dict[str, str]
) -> None:
    document = json.loads((project / "openapi.json").read_text())
    OpenAPIV31SpecValidator(document).validate()
    routes = (project / "hello" / "routes.py").read_text()
    found = re.findall(r'api\.(get|post|delete)\("([^"]+)"', routes)
    operations = [(method, path) for path, item in document["paths"].items() for method in item]
    assert sorted(operations) == sorted(found)
    assert len(found) == (1 if options["database"] == "none" else 5)


def test_the_readme_is_valid(project: Path) -> None:
    assert _title_and_first_line(project / "README.rst") == ("Hello", "A daemon on API-Hour")


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_answer_stays_the_same_text(tmp_path: Path, case: str) -> None:
    text = HOSTILE[case]
    answers = {"project_name": text, "description": text, "author": text}
    project = bake(tmp_path / "out", project_slug="hello", **answers)
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert metadata["name"] == "hello"
    assert metadata["description"] == text
    assert metadata["authors"] == [{"name": text}]
    assert _title_and_first_line(project / "README.rst") == (text, text)


def test_code_does_not_depend_on_free_text(tmp_path: Path) -> None:
    plain = bake(tmp_path / "plain", project_slug="hello")
    free = {"project_name": '"$(x)', "description": "'#", "author": "\\"}
    hostile = bake(tmp_path / "hostile", project_slug="hello", **free)
    for path in files(plain):
        if path.name not in ("README.rst", "pyproject.toml", ".api-hour.json"):
            assert path.read_text() == (hostile / path.relative_to(plain)).read_text()


def test_an_empty_author_leaves_no_trace(tmp_path: Path) -> None:
    assert "author" not in (bake(tmp_path / "out") / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("name", "slug"),
    [("Hello World", "hello_world"), ("Café-Über", "cafe_uber"), ("???", "hello")],
)
def test_a_slug_is_derived_from_the_name(tmp_path: Path, name: str, slug: str) -> None:
    assert bake(tmp_path / "out", project_name=name).name == slug


@pytest.mark.parametrize("slug", REFUSED_SLUGS)
def test_a_bad_slug_is_refused_by_name(
    tmp_path: Path, slug: str, capfd: pytest.CaptureFixture[str]
) -> None:
    said = _refusal(tmp_path / "a" / "b", capfd, project_slug=slug)
    assert "project_slug must" in said
    assert REFUSED_SLUGS[slug] in said


@pytest.mark.parametrize(
    ("slug", "end"),
    [
        ("my-app", "'my-app'; use my_app"),
        ("My App", "'My App'; use my_app"),
        ("api-hour", "'api-hour'"),
        ("größe", "'größe'"),
        ("3d", "'3d'"),
    ],
)
def test_a_valid_name_is_suggested_if_one_follows_from_the_slug(
    tmp_path: Path, slug: str, end: str, capfd: pytest.CaptureFixture[str]
) -> None:
    said = _refusal(tmp_path / "out", capfd, project_slug=slug)
    assert re.findall(r"^project_slug must .*: (.*)$", said, re.MULTILINE) == [end]


@pytest.mark.parametrize("name", ["project_name", "description", "author"])
@pytest.mark.parametrize("text", REFUSED_LINES)
def test_a_bad_line_is_refused_by_name(
    tmp_path: Path, name: str, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    said = _refusal(tmp_path / "out", capfd, project_slug="hello", **{name: text})
    assert f"{name} must" in said
    assert REFUSED_LINES[text] in said


def test_every_bad_answer_is_named_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = _refusal(tmp_path / "out", capfd, project_slug="json", description="", author="\n")
    named = re.findall(r"^(\w+) must", said, re.MULTILINE)
    assert sorted(named) == ["author", "description", "project_slug"]


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        ("databse=none", "database"),
        (
            "x=1",
            "project_name, project_slug, description, author, database, container, systemd, ci",
        ),
    ],
)
def test_an_answer_to_no_question_is_refused(tmp_path: Path, answer: str, asked: str) -> None:
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config"]
    result = subprocess.run(
        [*command, f"--output-dir={tmp_path / 'out'}", str(ROOT), "_origin=", answer],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    name = answer.partition("=")[0]
    assert (result.returncode, result.stderr) == (
        1,
        f"Error: the template does not ask for {name}, but for {asked}: {answer}\n",
    )
    assert not (tmp_path / "out").exists()


def test_a_project_is_not_generated_over(tmp_path: Path) -> None:
    project = bake(tmp_path / "out", container="no")
    (project / "Dockerfile").write_text("FROM scratch\n")
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config"]
    command += ["--overwrite-if-exists", f"--output-dir={tmp_path / 'out'}", str(ROOT)]
    result = subprocess.run(
        [*command, "container=no"],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"{project} is a generated project already: update it there")
    assert (project / "Dockerfile").read_text() == "FROM scratch\n"


@pytest.mark.parametrize("tag", ["<" + "< 7*7 >" + ">", "<" + "% raise %>", "<" + "# a #>"])
def test_a_tag_typed_at_the_prompt_is_refused_unrendered(tmp_path: Path, tag: str) -> None:
    typed = f"Hello\nhello\n{tag}" + 6 * "\n"
    command = [sys.executable, "-m", "cookiecutter", "--default-config", str(ROOT)]
    environment = {**os.environ, "HOME": str(tmp_path)}
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        input=typed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("description must not contain ")
    assert tag in result.stderr
    assert "Traceback" not in result.stderr + result.stdout
    assert not (tmp_path / "hello").exists()


@pytest.mark.parametrize(
    "answer",
    [
        "<" + "< cycler.__init__.__globals__.os.system('touch FILE') >>",
        "<" + "% set x = cycler.__init__.__globals__.os.system('touch FILE') %>",
        "<" + "% endraw %>' \\ é 🚀 <" + "< 7*7 >>",
        "<" + "<cookiecutter.project_slug>><" + "# a #>",
    ],
)
def test_a_tag_in_a_given_answer_is_refused_unrendered(
    tmp_path: Path,
    answer: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ("project_name", "project_slug", "description", "author")
    monkeypatch.chdir(tmp_path)
    said = _refusal(tmp_path / "out", capfd, **dict.fromkeys(names, answer))
    assert [name for name in names if f"{name} must " in said] == [*names]
    assert said.count(repr(answer)) == len(names)
    assert not (tmp_path / "FILE").exists()


def _refusal(folder: Path, capfd: pytest.CaptureFixture[str], **answers: str) -> str:
    """Bake with answers that must be refused; return the message."""
    with pytest.raises(FailedHookException):
        bake(folder, **answers)
    assert list(folder.iterdir()) == []
    return capfd.readouterr().err


def _title_and_first_line(page: Path) -> tuple[str, str]:
    """Return the title and the first paragraph of a page, which must be valid."""
    settings = {"halt_level": 2, "report_level": 2}
    document = docutils.core.publish_doctree(page.read_text(), settings_overrides=settings)
    paragraph = next(document.findall(docutils.nodes.paragraph))
    return document["title"], paragraph.astext()
