"""The daemon as it runs in production: a process that obeys signals."""

from pathlib import Path

from api_hour import testing

ROOT = Path(__file__).parent.parent
APPLICATION = "<< cookiecutter.project_slug >>:Container"


def test_the_daemon_boots_answers_and_exits_on_term(variables: dict[str, str]) -> None:
    with testing.daemon(APPLICATION, ["http", "admin"], folder=ROOT, variables=variables) as daemon:
        assert daemon.get("/").status == 200
        for path in ("/health/ready", "/health/engines", "/metrics"):
            assert daemon.get(path, "admin").status == 200
        foreign = {"Host": "a.page.example"}
        assert daemon.get("/metrics", "admin", headers=foreign).status == 421
        for path in ("/health/live", "/metrics"):
            assert daemon.get(path).status == 404
