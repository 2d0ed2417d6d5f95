"""The loader: what overrides what, and a reload that changes nothing until it is proved."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from api_hour.config import loader as loader_module
from api_hour.config.loader import Loader
from api_hour.exceptions import ConfigError
from api_hour.logs import setup
from api_hour.master import arbiter

Load = Callable[..., Loader]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return a function that loads files of etc/hello, given by name, and options."""
    monkeypatch.chdir(tmp_path)  # Gunicorn changes the working directory and the path
    monkeypatch.setattr(sys, "path", list(sys.path))
    for variable in ("PORT", "WEB_CONCURRENCY", "GUNICORN_CMD_ARGS", "FORWARDED_ALLOW_IPS"):
        monkeypatch.delenv(variable, raising=False)

    def write_and_load(
        *options: str, yaml: str = "", python: str = "", **environment: str
    ) -> Loader:
        (tmp_path / "main.yaml").write_text(yaml)
        (tmp_path / "gunicorn.conf.py").write_text(python)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        command = ["api_hour", "hello:Container", "--config-dir", str(tmp_path), *options]
        monkeypatch.setattr(sys, "argv", command)
        return Loader(object)

    return write_and_load


def urls(loader: Loader, name: str = "http") -> list[str]:
    return [str(address) for address in loader.generation.listeners[name].addresses]


@pytest.mark.parametrize(
    ("yaml", "python", "options", "expected"),
    [
        ("", "", [], (1, 5.0)),
        ("api_hour: {max_surge: 2}", "", [], (2, 5.0)),
        ("api_hour: {max_surge: 2}", "max_surge = 3\ndrain_idle = 1", [], (3, 1.0)),
        ("api_hour: {max_surge: 2}", "max_surge = 3", ["--max-surge", "4"], (4, 5.0)),
    ],
)
def test_the_command_line_wins_over_python_which_wins_over_yaml(
    load: Load, yaml: str, python: str, options: list[str], expected: tuple[int, float]
) -> None:
    cfg = load(*options, yaml=yaml, python=python).cfg
    assert (cfg.max_surge, cfg.drain_idle) == expected


def test_the_next_generation_is_read_and_the_current_one_stays_in_force(
    load: Load, tmp_path: Path
) -> None:
    loader = load(yaml="api_hour: {max_surge: 2}")
    current = loader.generation
    (tmp_path / "main.yaml").write_text("api_hour: {max_surge: 3}")
    following = loader.next_generation(current)
    assert (current.cfg.max_surge, following.cfg.max_surge) == (2, 3)
    assert loader.generation is current
    assert loader.cfg is current.cfg


def test_a_generation_with_other_listeners_is_refused(load: Load, tmp_path: Path) -> None:
    loader = load()
    current = loader.generation
    (tmp_path / "main.yaml").write_text("api_hour: {listeners: {http: 'tcp://127.0.0.1:1'}}")
    message = r"^listener http cannot change at a reload, from tcp://127.0.0.1:8000 to tcp://127"
    with pytest.raises(ConfigError, match=message):
        loader.next_generation(current)
    assert loader.generation is current


def test_a_misspelled_setting_of_the_python_file_is_warned_of(load: Load) -> None:
    python = "import os\n\nworker = 2\nhost = 'x'\n_backlogs = 1\n\ndef on_reloads(a):\n    pass\n"
    warnings = load(python=python).generation.warnings
    assert [warning.rpartition("/")[2] for warning in warnings] == [
        "gunicorn.conf.py:3: worker is not a setting; did you mean workers?",
        "gunicorn.conf.py:7: on_reloads is not a setting; did you mean on_reload?",
    ]


def test_what_only_a_start_reads_is_warned_of_at_a_reload(load: Load, tmp_path: Path) -> None:
    python = "import gunicorn.glogging\nclass logger_class(gunicorn.glogging.Logger): pass\n"
    loader = load(yaml="api_hour: {balance: slots, timeout: 5}", python=python)
    (tmp_path / "main.yaml").write_text("api_hour: {timeout: 6, backlog: 9, spew: true}")
    following = loader.next_generation(loader.generation)
    assert following.warnings == (
        "backlog cannot change at a reload: restart the daemon to change it",
        "balance cannot change at a reload: restart the daemon to change it",
        "spew cannot change at a reload: restart the daemon to change it",
    )
    assert following.cfg.timeout == 6
    (tmp_path / "main.yaml").write_text("api_hour: {group: 12}")
    with pytest.raises(ConfigError, match=r"^group cannot change at a reload: restart the daemon"):
        loader.next_generation(loader.generation)


def test_the_owner_of_a_unix_socket_cannot_change_at_a_reload(load: Load, tmp_path: Path) -> None:
    yaml = "api_hour: {umask: 0, listeners: {http: 'unix:/run/x.sock'}}"
    loader = load(yaml=yaml)
    (tmp_path / "main.yaml").write_text(yaml.replace("umask: 0", "umask: 7"))
    message = r"from unix:/run/x\.sock\?mode=0777 to unix:/run/x\.sock\?mode=0770: restart the"
    with pytest.raises(ConfigError, match=message):
        loader.next_generation(loader.generation)


def test_a_relative_path_of_a_socket_keeps_the_link_of_the_folder(
    load: Load, tmp_path: Path
) -> None:
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
    current = tmp_path / "current"
    current.symlink_to("one")
    loader = load("--chdir", str(current), "--bind", "unix:x.sock")
    assert urls(loader) == [f"unix:{current}/x.sock"]
    current.unlink()
    current.symlink_to("two")
    following = loader.next_generation(loader.generation)
    assert following.folder == str(tmp_path / "two")


def test_files_that_would_not_be_read_are_named(load: Load, tmp_path: Path) -> None:
    load()
    for name in ("main.yaml", "gunicorn.conf.py"):
        (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match=r"holds none of main.yaml, logging.yaml, gun"):
        Loader(object)
    for name in ("logging", "main"):
        (tmp_path / f"{name}.yml").write_text("")
        with pytest.raises(ConfigError, match=rf"{name}\.yml: rename it to {name}\.yaml$"):
            Loader(object)


def test_where_the_files_are_is_said_by_options_only(load: Load) -> None:
    for name in ("config", "config_dir"):
        with pytest.raises(ConfigError, match=rf"main.yaml:1: api_hour.{name} cannot be set here"):
            load(yaml=f"api_hour: {{{name}: x}}")
        [warning] = load(python=f"{name} = 'x'").generation.warnings
        assert f"{name} has no effect: only an option can set it" in warning


def test_a_module_of_settings_is_read_anew_at_a_reload(load: Load, tmp_path: Path) -> None:
    module = tmp_path / "settings_of_hello.py"
    module.write_text("max_surge = 2")
    sys.path.insert(0, str(tmp_path))
    loader = load("--config", "python:settings_of_hello")
    module.write_text("max_surge = 34")
    assert loader.next_generation(loader.generation).cfg.max_surge == 34


def test_what_needs_a_missing_package_or_a_log_is_told(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "find_spec", lambda name: None)
    [warning] = load("--name", "web").generation.warnings
    assert warning == "proc_name has no effect without setproctitle: install it"
    with pytest.raises(ConfigError, match="daemon has no terminal to log to: give it an errorlog"):
        load("--daemon")
    assert load("--daemon", "--error-logfile", "log").cfg.daemon


def test_a_project_named_like_a_file_of_etc_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert Path("/etc/hosts").is_file()
    monkeypatch.setattr(sys, "argv", ["api_hour", "hosts:Container"])
    assert urls(Loader(object)) == ["tcp://127.0.0.1:8000"]


def test_a_python_file_is_found_or_named(load: Load, tmp_path: Path) -> None:
    assert load(python="max_surge = 3").cfg.max_surge == 3  # beside main.yaml: config_dir
    (tmp_path / "other.py").write_text("max_surge = 4")
    for named in ("other.py", "file:other.py", f"{tmp_path}/other.py", "python:other"):
        sys.path.insert(0, str(tmp_path))
        assert load("--config", named, python="max_surge = 3").cfg.max_surge == 4
    assert "other" not in sys.modules


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:80", "tcp://127.0.0.1:80"),
        ("127.0.0.1:8000", "tcp://127.0.0.1:8000"),  # the default, named over main.yaml
        ("example.org", "tcp://example.org:8000"),
        (":80", "tcp://0.0.0.0:80"),
        ("[::1]", "tcp://[::1]:8000"),
        ("[::1]:80", "tcp://[::1]:80"),
        ("tcp://127.0.0.1:80", "tcp://127.0.0.1:80"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("fd://7", "fd://7"),
    ],
)
def test_gunicorns_addresses_mean_the_listener_http(load: Load, bind: str, url: str) -> None:
    yaml = "api_hour: {listeners: {http: 'tcp://0.0.0.0:1', admin: 'tcp://0.0.0.0:2'}}"
    loader = load("--bind", bind, yaml=yaml)
    assert (urls(loader), urls(loader, "admin")) == ([url], ["tcp://0.0.0.0:2"])


def test_a_listener_has_as_many_addresses_as_it_is_given(load: Load) -> None:
    yaml = "api_hour: {listeners: {http: ['tcp://0.0.0.0:1', 'tcp://[::]:1?ipv6only=on']}}"
    assert urls(load(yaml=yaml)) == ["tcp://0.0.0.0:1", "tcp://[::]:1"]
    options = ["--listen", "http=tcp://127.0.0.1:3", "--listen", "http=unix:/run/x.sock"]
    assert urls(load(*options, yaml=yaml)) == ["tcp://127.0.0.1:3", "unix:/run/x.sock"]
    assert urls(load("-b", "[::1]:4", "-b", "127.0.0.1:4")) == [
        "tcp://[::1]:4",
        "tcp://127.0.0.1:4",
    ]


def test_port_and_web_concurrency_win_over_main_yaml_only(load: Load) -> None:
    yaml = "api_hour: {workers: 2, listeners: {http: {url: 'tcp://[::1]:1', max_connections: 7}}}"
    loader = load(yaml=yaml, PORT="5000", WEB_CONCURRENCY="3")
    http = loader.generation.listeners["http"]
    assert urls(loader) == ["tcp://*:5000"]
    assert (http.max_connections, http.origin) == (7, " (PORT of the environment)")
    assert loader.cfg.workers == 3
    loader = load("-b", "127.0.0.1:6000", yaml=yaml, python="workers = 4")
    assert (urls(loader), loader.cfg.workers) == (["tcp://127.0.0.1:6000"], 4)
    assert loader.generation.listeners["http"].origin == ""
    assert loader.generation.warnings == (
        "PORT has no effect: gunicorn.conf.py or an option names the listener http",
    )
    with pytest.raises(
        ConfigError, match=r"main.yaml:1: api_hour.listeners must map names to URLs"
    ):
        load(yaml="api_hour: {listeners: null}")
    loader = load(yaml="api_hour: {listeners: {dns: 'udp://[::1]:53'}}")
    assert loader.generation.warnings == ("PORT has no effect: there is no listener http",)


def test_an_empty_variable_is_not_set_and_a_bad_one_is_named(load: Load) -> None:
    empty = {"PORT": "", "WEB_CONCURRENCY": "", "GUNICORN_CMD_ARGS": "", "FORWARDED_ALLOW_IPS": ""}
    loader = load(**empty)
    assert (urls(loader), loader.cfg.workers) == (["tcp://127.0.0.1:8000"], 1)
    for port in ("65536", "0", "http", "tcp://10.0.0.1:80"):
        with pytest.raises(ConfigError) as error:
            load(PORT=port)
        assert str(error.value) == f"PORT must be a number from 1 to 65535, got {port!r}"
    with pytest.raises(ConfigError) as error:
        load(PORT="", WEB_CONCURRENCY="many")
    assert (
        str(error.value) == "WEB_CONCURRENCY must be a whole number up to 1024, or auto, got 'many'"
    )


def test_forwarded_allow_ips_of_the_environment_is_warned_of(load: Load) -> None:
    [warning] = load(FORWARDED_ALLOW_IPS="*").generation.warnings
    assert warning.startswith("FORWARDED_ALLOW_IPS has no effect: give trusted_proxies")


@pytest.mark.parametrize("place", ["option", "variable", "python", "default python", "relative"])
def test_etc_is_found_in_the_folder_that_chdir_names_whoever_names_it(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, start = tmp_path / "app", tmp_path / "start"
    (app / "etc" / "hello").mkdir(parents=True)
    start.mkdir()
    (app / "etc" / "hello" / "main.yaml").write_text("api_hour: {max_surge: 5}")
    python = f"chdir = {str(app)!r}\n"
    (start / "conf.py").write_text(python)
    if place == "default python":
        (start / "gunicorn.conf.py").write_text(python)
    options = {
        "option": ["--chdir", str(app)],
        "relative": ["--chdir", "../app"],
        "python": ["--config", "conf.py"],
    }
    monkeypatch.chdir(start)
    monkeypatch.setenv("GUNICORN_CMD_ARGS", f"--chdir {app}" if place == "variable" else "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["api_hour", "hello:Container", *options.get(place, [])])
    loader = Loader(object)
    assert (loader.cfg.max_surge, loader.generation.folder) == (5, str(app))
    # At a reload as well, when the working directory is another one.
    (app / "etc" / "hello" / "main.yaml").write_text("api_hour: {max_surge: 6}")
    assert loader.next_generation(loader.generation).cfg.max_surge == 6


def test_a_reload_takes_the_folder_that_a_link_names_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in ("1", "2"):
        (tmp_path / number / "etc" / "hello").mkdir(parents=True)
        (tmp_path / number / "etc/hello/main.yaml").write_text(f"api_hour: {{max_surge: {number}}}")
    current = tmp_path / "current"
    current.symlink_to("1")
    monkeypatch.chdir(current)
    monkeypatch.setenv("PWD", str(current))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["api_hour", "hello:Container", "--chdir", str(current)])
    loader = Loader(object)
    current.unlink()
    current.symlink_to("2")
    shutil.rmtree(tmp_path / "1")
    following = loader.next_generation(loader.generation)
    assert (following.cfg.max_surge, following.folder) == (2, str(tmp_path / "2"))
    # Without the folder of the start, absolute paths still work, and others are named.
    current.unlink()
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-1], str(tmp_path / "2")])
    assert loader.next_generation(following).cfg.max_surge == 2
    monkeypatch.setattr(sys, "argv", sys.argv[:-2])
    with pytest.raises(ConfigError, match=r"/current, where the daemon was started, is gone: put"):
        loader.next_generation(following)


def test_a_unix_socket_has_the_mode_that_umask_leaves_and_another_user_as_owner(load: Load) -> None:
    yaml = "api_hour: {listeners: {http: 'unix:/run/x.sock'}}"
    [address] = load(yaml=yaml).generation.listeners["http"].addresses
    assert (address.mode, address.user, address.group) == (0o777, None, None)
    options = ["--umask", "007", "--user", "65534", "--group", "65533"]
    [address] = load(*options, yaml=yaml).generation.listeners["http"].addresses
    assert (address.mode, address.user, address.group) == (0o770, 65534, 65533)
    yaml = "api_hour: {listeners: {http: 'unix:/run/x.sock?mode=0600&user=0'}}"
    [address] = load(*options, yaml=yaml).generation.listeners["http"].addresses
    assert (address.mode, address.user, address.group) == (0o600, 0, 65533)


@pytest.mark.parametrize(
    ("python", "got"),
    [
        ("def post_fork(): pass", "def post_fork()"),
        ("async def post_fork(server, worker): pass", "async def post_fork(server, worker)"),
        ("post_fork = 3", "3"),
        ("post_fork = 'nosuch.hook'", "'nosuch.hook'"),
    ],
)
def test_a_hook_of_a_wrong_kind_is_told_its_arguments(load: Load, python: str, got: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(python=python)
    rule = f"post_fork must be a plain function of (server, worker), got {got}"
    assert str(raised.value) == f"gunicorn.conf.py:1: {rule}"


@pytest.mark.parametrize("name", ["check", "check_config", "print_config"])
def test_what_ends_the_command_is_an_option_only(load: Load, name: str) -> None:
    cure = f"cannot be set here: only an option can: --{name.replace('_', '-')}"
    for places in ({"yaml": f"api_hour: {{{name}: true}}"}, {"python": f"{name} = True"}):
        with pytest.raises(ConfigError, match=f"{name} {cure}$"):
            load(**places)


def test_the_files_that_were_read_are_known(load: Load, tmp_path: Path) -> None:
    assert load().generation.origin == "main.yaml, gunicorn.conf.py"
    logs = "handlers: {none: {class: logging.NullHandler}}\nroot: {level: INFO, handlers: [none]}"
    (tmp_path / "logging.yaml").write_text(logs)
    assert load().generation.origin == "main.yaml, logging.yaml, gunicorn.conf.py"
    sys.argv = ["api_hour", "hello:Container", "--config", "python:ast"]
    for name in ("main.yaml", "logging.yaml"):
        (tmp_path / name).unlink()
    loader = Loader(object)
    assert loader.generation.origin == "python:ast"
    assert loader.next_generation(loader.generation).origin == "python:ast"
    sys.argv = ["api_hour", "hello:Container"]
    (tmp_path / "gunicorn.conf.py").unlink()
    assert Loader(object).generation.origin == "no file in etc/hello or /etc/hello"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_root_trusts_whose_files_it_obeys_and_says_so_once(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "ROOT", 0)
    assert load("--user=nobody").generation.trusted == {0}
    os.chown(tmp_path, 54321, -1)
    generation = load("--user=nobody").generation
    assert generation.trusted == {0, 54321}
    [told] = generation.warnings
    file = f"{tmp_path}/gunicorn.conf.py"
    owner = f"{tmp_path} belongs to user 54321"
    assert told == f"root obeys {file}, which others can change: {owner}"


def test_what_cannot_be_opened_is_told_without_the_value_of_a_variable(load: Load) -> None:
    yaml = "api_hour: {logger_class: !env VALUE, worker_tmp_dir: !env VALUE}"
    generation = load(yaml=yaml, VALUE="/hidden").generation
    the_log = r"or logger_class\): logger_class is <!env VALUE>$"
    with pytest.raises(ConfigError, match=the_log), setup.opening(generation.veiled):
        generation.cfg.logger_class  # noqa: B018 - Gunicorn loads the class
    no_file = r"or logger_class\): logger_class is <!env VALUE>: No such file or directory$"
    with pytest.raises(ConfigError, match=no_file), setup.opening(generation.veiled):
        os.stat("/hidden/log")
    with pytest.raises(ConfigError, match=r"cannot be made in <!env VALUE>: No such file"):
        arbiter._refuse_unusable(generation)
    generation = load("--worker-tmp-dir=/plain", yaml=yaml, VALUE="/hidden").generation
    with pytest.raises(ConfigError, match="cannot be made in /plain: No such file"):
        arbiter._refuse_unusable(generation)


MALLORY = 54321  # a user without an account
RAN = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()"
# Where a file is found: the modes of its folder, the owners of the folder and of the file.
PLANTED = {
    "sticky": (0o1777, 0, MALLORY, "all users may write to "),
    "sticky, of its owner": (0o1777, MALLORY, MALLORY, "all users may write to "),
    "writable": (0o777, 0, MALLORY, "all users may write to "),
    "group": (0o775, 1000, MALLORY, "its folder to user 1000"),
}
MEANT = {
    "sticky, of root": (0o1777, 0, 0, {0}),
    "writable, of root": (0o777, 0, 0, {0}),
    "a developer's": (0o775, 1000, 1000, {0, 1000}),
    "root's in a developer's": (0o755, 1000, 0, {0, 1000}),
    "a developer's in root's": (0o755, 0, 1000, {0, 1000}),
}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


class Found:
    """A file that is found without an option, and what root does with it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loader_module, "ROOT", 0)
        monkeypatch.setattr(sys, "path", list(sys.path))
        self.start = folder / "start"
        self.start.mkdir()
        self.monkeypatch = monkeypatch

    def put(self, name: str, mode: int, owner: int, user: int) -> Path:
        path = self.start / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(RAN if path.suffix == ".py" else "api_hour: {max_surge: 7}\n")
        if path.suffix != ".py" and "logging" in name:
            path.write_text("root: {level: INFO, handlers: []}\nhandlers: {}\n")
        os.chown(path, user, user)
        os.chown(path.parent, owner, owner)
        path.parent.chmod(mode)
        return path

    def load(self, *options: str) -> Loader:
        self.monkeypatch.chdir(self.start)
        command = ["api_hour", "hello:Container", "--user=nobody", *options]
        self.monkeypatch.setattr(sys, "argv", command)
        return Loader(object)


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Found:
    return Found(tmp_path, monkeypatch)


FOUND = ["gunicorn.conf.py", "etc/hello/gunicorn.conf.py", "etc/hello/main.yaml"]


@as_root
@pytest.mark.parametrize("name", [*FOUND, "etc/hello/logging.yaml"])
@pytest.mark.parametrize("case", PLANTED)
def test_root_does_not_read_what_others_have_put_where_it_looks(
    found: Found, case: str, name: str
) -> None:
    *where, fault = PLANTED[case]
    path = found.put(name, *where)
    option = "--config" if name.endswith(".py") else "--config-dir"
    with pytest.raises(ConfigError) as caught:
        found.load()
    told = f"{path} is not read: {path} belongs to user {MALLORY}, and {fault}"
    assert str(caught.value).startswith(told)
    assert str(caught.value).endswith(
        f"; remove it, or name it with {option} if root shall obey it"
    )
    assert not path.with_name("ran").exists()
    value = path if option == "--config" else path.parent
    assert MALLORY in found.load(f"{option}={value}").generation.trusted


@as_root
@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("case", MEANT)
def test_root_reads_its_own_files_and_those_of_a_developer(
    found: Found, case: str, name: str
) -> None:
    *where, trusted = MEANT[case]
    path = found.put(name, *where)
    loader = found.load()
    assert loader.generation.trusted == trusted
    assert path.with_name("ran").exists() or loader.cfg.max_surge == 7
    assert bool(loader.generation.warnings) == (case != "sticky, of root")


@as_root
def test_root_follows_no_link_and_enters_no_folder_that_others_have_put_there(
    found: Found, tmp_path: Path
) -> None:
    path = found.put("etc/hello/main.yaml", 0o755, MALLORY, MALLORY)
    os.chown(found.start / "etc", MALLORY, MALLORY)
    found.start.chmod(0o1777)
    etc = f"{found.start}/etc belongs to user {MALLORY}, and all users may write to {found.start};"
    for _ in ("with files", "empty, so that /etc/hello does not count"):
        with pytest.raises(ConfigError, match=etc):
            found.load()
        path.unlink(missing_ok=True)
    path.parent.rmdir()
    link, target = found.start / "gunicorn.conf.py", tmp_path / "of_root.py"
    target.write_text(RAN)
    link.symlink_to(target)
    assert found.load().generation.origin == "gunicorn.conf.py"
    (tmp_path / "start" / "ran").unlink()
    os.chown(link, MALLORY, MALLORY, follow_symlinks=False)
    with pytest.raises(ConfigError, match=f"{link} belongs to user {MALLORY}, and all users"):
        found.load()
    link.unlink()
    os.link(target, link)
    with pytest.raises(ConfigError, match=f"{link} has a second name, and all users"):
        found.load()
    assert not (found.start / "ran").exists()


@as_root
@pytest.mark.parametrize("name", FOUND)
def test_a_reload_reads_no_file_of_a_user_whom_the_start_did_not_trust(
    found: Found, name: str
) -> None:
    loader = found.load()
    path = found.put(name, 0o755, MALLORY, MALLORY)
    for options in ([], [f"--config-dir={path.parent}"]):
        found.monkeypatch.setattr(sys, "argv", [*sys.argv, *options])
        with pytest.raises(ConfigError) as caught:
            loader.next_generation(loader.generation)
        assert f" belongs to user {MALLORY}, whose files root did not obey" in str(caught.value)
        assert str(path) in str(caught.value)
        assert str(caught.value).endswith("or restart the daemon to trust this user")
    assert not path.with_name("ran").exists()
    loader = found.load()  # as a restart does
    assert loader.next_generation(loader.generation).trusted == {0, MALLORY}


@pytest.mark.skipif(os.geteuid() != 0, reason="for another user, others may have to read it")
def test_a_key_that_all_users_may_read_is_warned_of(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "ROOT", 0)
    path = tmp_path / "both.pem"
    trustme.CA().issue_cert("web.test").private_key_and_cert_chain_pem.write_to_path(path)
    listen = f"api_hour: {{listeners: {{http: {{url: 'tcp://127.0.0.1:1', certificate: {path}}}}}}}"
    told = f"listener http: all users may read the key {path}: chmod o= {path}"
    for mode, warnings in ((0o644, (told,)), (0o640, ())):
        path.chmod(mode)
        assert load("--user=nobody", yaml=listen).generation.warnings == warnings


@as_root
@pytest.mark.parametrize(("mode", "imports"), [(0o1777, False), (0o755, True)])
def test_root_imports_nothing_from_a_folder_like_tmp(
    found: Found, mode: int, imports: bool
) -> None:
    found.start.chmod(mode)
    found.load()
    assert (str(found.start) in sys.path) is imports
