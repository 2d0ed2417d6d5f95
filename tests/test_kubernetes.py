"""The manifests of a generated project, rendered by kustomize and compared with each other."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from testkit.ports import free_port
from testkit.processes import Daemon
from testkit.projects import DATABASES, ask, bake, program, unpack

KUSTOMIZE = 5  # the oldest version that works
PACKAGE = "kubernetes-client"  # the Debian package that contains it
CONFIGURATION = Path("etc", "hello")
PRODUCTION = Path("deploy", "kubernetes", "production")
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return a kubectl with a recent kustomize: this machine's, or a newer one of Debian."""
    found = shutil.which("kubectl")
    if found and kustomize(found) >= KUSTOMIZE:
        yield found
        return
    if shutil.which("mmdebstrap") is None or os.geteuid() != 0:
        pytest.skip(f"no kubectl with kustomize {KUSTOMIZE}, and none without root, mmdebstrap")
    root = tmp_path_factory.mktemp("kubectl")
    unpack(root, PACKAGE)
    yield str(root / "usr/bin/kubectl")
    shutil.rmtree(root)


def kustomize(kubectl: str) -> int:
    """Return the major version of the kustomize in kubectl."""
    command = [kubectl, "version", "--client", "--output=json"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    version = json.loads(result.stdout).get("kustomizeVersion", "v0")
    return int(version.removeprefix("v").partition(".")[0])


@pytest.fixture(scope="module", params=DATABASES)
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bake a project with each answer for the database."""
    return bake(tmp_path_factory.mktemp("baked") / "out", database=request.param)


@pytest.fixture(scope="module")
def manifests(kubectl: str, project: Path) -> dict[str, Manifest]:
    """Return the manifests of production by kind."""
    return by_kind(render(kubectl, project))


def render(kubectl: str, project: Path, folder: Path = PRODUCTION) -> str:
    """Return the manifests that kustomize renders from a folder."""
    command = [kubectl, "kustomize", str(project / folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def by_kind(text: str) -> dict[str, Manifest]:
    """Return the manifests of a text by kind; there is one of each kind."""
    found: list[Manifest] = list(yaml.safe_load_all(text))
    kinds = {manifest["kind"]: manifest for manifest in found}
    assert len(kinds) == len(found) > 5
    return kinds


def validate(folder: Path, text: str) -> "subprocess.CompletedProcess[str]":
    """Validate manifests against the Kubernetes schema."""
    (folder / "rendered.yaml").write_text(text)
    command = [program("kubernetes-validate"), "--strict", str(folder / "rendered.yaml")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def pods(manifests: dict[str, Manifest]) -> list[Manifest]:
    """Return the templates of the pods."""
    kinds = [kind for kind in ("Deployment", "Job") if kind in manifests]
    return [manifests[kind]["spec"]["template"] for kind in kinds]


def selected(selector: dict[str, str], pod: Manifest) -> bool:
    """Tell whether a selector matches a pod."""
    return bool(selector.items() <= pod["metadata"]["labels"].items())


def test_the_manifests_are_few(project: Path) -> None:
    base, production = (
        list((project / PRODUCTION).parent.glob(f"{name}/*")) for name in ("base", "production")
    )
    assert 0 < len(base) <= 7
    assert 0 < len(production) <= 2


def test_the_manifests_are_valid(kubectl: str, project: Path, tmp_path: Path) -> None:
    for folder in (PRODUCTION, PRODUCTION.with_name("base")):
        result = validate(tmp_path, render(kubectl, project, folder))
        assert result.returncode == 0, result.stdout + result.stderr


def test_an_unknown_field_would_be_found(manifests: dict[str, Manifest], tmp_path: Path) -> None:
    text = yaml.safe_dump(manifests["Deployment"]).replace("periodSeconds", "period")
    assert validate(tmp_path, text).returncode == 1


def test_a_slug_becomes_a_valid_name_for_kubernetes(kubectl: str, tmp_path: Path) -> None:
    project = bake(tmp_path / "out", project_slug="my__own_app")
    manifests = by_kind(render(kubectl, project))
    names = {manifest["metadata"]["name"] for manifest in manifests.values()}
    assert [name for name in names if not re.fullmatch(r"my--own-app(-[a-z0-9]+)?", name)] == []


def test_there_is_a_migration_if_there_is_a_database(
    manifests: dict[str, Manifest], project: Path
) -> None:
    assert ("Job" in manifests) == (project / "hello" / "migrations").exists()
    text = json.dumps(manifests)
    assert ("DATABASE_URL" in text) == ("5432" in text) == ("Job" in manifests)


def test_secrets_are_only_referenced(manifests: dict[str, Manifest]) -> None:
    assert "Secret" not in manifests
    variables = [
        variable
        for pod in pods(manifests)
        for variable in pod["spec"]["containers"][0].get("env", ())
    ]
    plain = {item["name"]: item["value"] for item in variables if "value" in item}
    assert plain == {"LOG_FORMAT": "json"}
    assert {json.dumps(item["valueFrom"]) for item in variables if "value" not in item} <= {
        json.dumps({"secretKeyRef": {"key": "DATABASE_URL", "name": "hello"}})
    }


def test_the_configuration_is_the_one_in_etc(manifests: dict[str, Manifest], project: Path) -> None:
    files = [path for path in (project / CONFIGURATION).iterdir() if path.stem != "kustomization"]
    assert manifests["ConfigMap"]["data"] == {path.name: path.read_text() for path in files}


def test_a_changed_configuration_rolls_out_to_the_pods(
    kubectl: str, project: Path, tmp_path: Path
) -> None:
    project = shutil.copytree(project, tmp_path / "hello")
    names = set()
    for _ in range(2):
        manifests = by_kind(render(kubectl, project))
        (volume,) = manifests["Deployment"]["spec"]["template"]["spec"]["volumes"]
        assert volume["configMap"]["name"] == manifests["ConfigMap"]["metadata"]["name"]
        names.add(volume["configMap"]["name"])
        with (project / CONFIGURATION / "main.yaml").open("a") as file:
            file.write("# changed\n")
    assert len(names) == 2


def test_every_pod_is_restricted(manifests: dict[str, Manifest]) -> None:
    for pod in pods(manifests):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        (container,) = spec["containers"]
        assert container["securityContext"] == RESTRICTED
        assert {*container["resources"]["requests"]} == {"cpu", "memory"}
        assert {*container["resources"]["limits"]} == {"memory"}


def test_the_pods_run_the_image_as_its_own_user(
    manifests: dict[str, Manifest], project: Path
) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (project / "Dockerfile").read_text(), re.MULTILINE)
    assert user
    for pod in pods(manifests):
        context = pod["spec"]["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"]) == (int(user[1]), int(user[2]))
        assert pod["spec"]["containers"][0]["image"] == "registry.example.org/hello:0.1.0"


def test_everything_selects_the_daemon_and_nothing_else(manifests: dict[str, Manifest]) -> None:
    daemon, *migration = pods(manifests)
    spec = {kind: manifest["spec"] for kind, manifest in manifests.items() if "spec" in manifest}
    selectors = [
        spec["Deployment"]["selector"]["matchLabels"],
        spec["Service"]["selector"],
        spec["PodDisruptionBudget"]["selector"]["matchLabels"],
        *(
            constraint["labelSelector"]["matchLabels"]
            for constraint in daemon["spec"]["topologySpreadConstraints"]
        ),
    ]
    assert len(selectors) == 5
    for selector in selectors:
        assert selected(selector, daemon)
        assert not any(selected(selector, pod) for pod in migration)
    everything = spec["NetworkPolicy"]["podSelector"]["matchLabels"]
    assert all(selected(everything, pod) for pod in (daemon, *migration))
    assert spec["HorizontalPodAutoscaler"]["scaleTargetRef"]["name"] == "hello"
    assert "replicas" not in spec["Deployment"]


def test_the_admin_listener_is_not_public(manifests: dict[str, Manifest]) -> None:
    assert [port["targetPort"] for port in manifests["Service"]["spec"]["ports"]] == ["http"]
    open_to_all = [
        rule for rule in manifests["NetworkPolicy"]["spec"]["ingress"] if "from" not in rule
    ]
    assert [port["port"] for rule in open_to_all for port in rule["ports"]] == ["http"]


def test_the_pod_has_time_to_drain(manifests: dict[str, Manifest]) -> None:
    spec = pods(manifests)[0]["spec"]
    option, delay = spec["containers"][0]["args"]
    assert option == "--stop-delay"
    settings = re.search(r"graceful_timeout: (\d+)", manifests["ConfigMap"]["data"]["main.yaml"])
    assert settings
    assert spec["terminationGracePeriodSeconds"] > float(delay) + float(settings[1])


def test_the_daemon_obeys_the_manifests(
    manifests: dict[str, Manifest], project: Path, tmp_path: Path
) -> None:
    (container,) = pods(manifests)[0]["spec"]["containers"]
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for name, text in manifests["ConfigMap"]["data"].items():
        (mounted / name).write_text(text)
    entry = re.search(
        r"^ENTRYPOINT (\[[^]]+\])", (project / "Dockerfile").read_text(), re.MULTILINE
    )
    assert entry
    _, *arguments = json.loads(entry[1].replace("\\\n", ""))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    free = {name: free_port() for name in ports}
    for name, port in ports.items():
        assert f"{name}=tcp://*:{port}" in arguments
        arguments = [text.replace(f":{port}", f":{free[name]}") for text in arguments]
    arguments += [*container["args"], "--config-dir", str(mounted)]
    arguments += ["--stop-delay", "60"]  # time to ask on a busy machine; the last option wins
    variables = {"DATABASE_URL": "postgresql://a:b@127.0.0.1:1/none"}
    with Daemon(project, *arguments, variables=variables) as daemon:
        daemon.ready()
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[name]["httpGet"]
            assert ask(free[probe["port"]], probe["path"]).status == 200
        daemon.send(15)
        daemon.wait_for("Handling signal: term")
        assert ask(free["http"], "/").status == 200
