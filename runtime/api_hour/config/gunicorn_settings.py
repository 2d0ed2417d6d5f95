"""What becomes of each setting of Gunicorn: it acts, is refused, or is warned of. Nothing else.

Gunicorn accepts whatever one of its workers or of its parts may use, and most of those do not run
here. A setting without effect is worse than one that is missing: somebody believes that client
certificates are checked. So every setting of Gunicorn is in exactly one of the four tables below,
and a test compares them with the Gunicorn that is installed. A setting of a newer Gunicorn, which
is in none of them, is warned of when it is not at its default.

Where a setting is refused or warned of, the text beside it is the cure. Only what changes neither
what clients may do nor what they get is warned of instead of refused: a file that serves Gunicorn
as well may hold it.
"""

from gunicorn.config import KNOWN_SETTINGS


def _names(text: str) -> list[str]:
    return text.split()


ACTS = _names(
    """
    backlog max_requests max_requests_jitter timeout graceful_timeout reload spew check_config
    print_config chdir daemon raw_env pidfile worker_tmp_dir user group umask initgroups accesslog
    disable_redirect_access_to_syslog errorlog loglevel capture_output logger_class syslog_addr
    syslog syslog_prefix syslog_facility enable_stdio_inheritance proc_name pythonpath on_starting
    on_reload when_ready pre_fork post_fork post_worker_init pre_exec child_exit worker_exit
    nworkers_changed on_exit
    """
)

ACTS_IN_OUR_WAY = {
    "config": "by default gunicorn.conf.py beside main.yaml, else in the working directory",
    "bind": "the addresses of the listener http",
    "workers": "also auto: the cores that this process may use",
    "ssl_context": "called for each certificate of a listener, in the master",
    "control_socket_disable": "API-Hour never opens a control socket",
}

_LISTENER = "TLS belongs to a listener"
_ASGI = "API-Hour runs no ASGI application by itself"
_HTTP2 = "API-Hour speaks HTTP/1.1; for HTTP/2 put a proxy in front"
_PARSING = "requests are parsed by aiohttp, strictly"
_PROXY = "give trusted_proxies the networks of the proxies"
_STATSD = "API-Hour tells Prometheus; set metrics: true, and let it read /metrics"
_PASTE = "API-Hour reads no paste file; settings stand in main.yaml"
_DIRTY = "API-Hour runs no dirty arbiter"
_LOGS = "logging.yaml, beside main.yaml, configures the logs"

REFUSED = {
    "wsgi_app": "name the Container on the command line, api_hour MODULE:CONTAINER",
    "worker_class": "a worker runs one api_hour.Container",
    "worker_connections": "set max_connections of a listener",
    "limit_request_line": "give HTTPServer a max_line_size",
    "limit_request_fields": "give HTTPServer max_headers",
    "limit_request_field_size": "give HTTPServer a max_field_size",
    "reload_extra_files": "reload watches the project's package and the folder of main.yaml",
    "preload_app": "the master never imports the project's code, or a broken release would end it",
    "reuse_port": "the master owns every listening socket, so that none is lost with a worker; "
    "set balance: slots",
    "tmp_upload_dir": "set TMPDIR, with raw_env for example",
    "secure_scheme_headers": f"{_PROXY}; their X-Forwarded-Proto tells the scheme",
    "forwarded_allow_ips": _PROXY,
    "access_log_format": "give HTTPServer an access_log_format in aiohttp's form, or write a "
    "logging.yaml",
    **dict.fromkeys(["logconfig", "logconfig_dict", "logconfig_json"], _LOGS),
    **dict.fromkeys(["statsd_host", "dogstatsd_tags", "statsd_prefix"], _STATSD),
    "enable_backlog_metric": _STATSD,
    "default_proc_name": "set proc_name",
    **dict.fromkeys(["paste", "raw_paste_global_conf"], _PASTE),
    "worker_int": "use worker_exit, or the code behind the yield of engines()",
    "worker_abort": "the log shows the stacks of a worker that is blocked",
    "pre_request": "write a middleware of aiohttp",
    "post_request": "write a middleware of aiohttp",
    "proxy_protocol": "it belongs to a listener; give it proxy_protocol, and set trusted_proxies",
    "proxy_allow_ips": _PROXY,
    "protocol": "a listener speaks what its server in servers() does",
    "uwsgi_allow_ips": "API-Hour does not speak uwsgi",
    "keyfile": f"{_LISTENER}; give it key",
    "certfile": f"{_LISTENER}; give it certificate",
    "ssl_version": f"{_LISTENER}; give it tls_min",
    "cert_reqs": f"{_LISTENER}; give it verify",
    "ca_certs": f"{_LISTENER}; give it ca",
    "ciphers": f"{_LISTENER}; give it ciphers",
    **dict.fromkeys(
        _names("""
        http_protocols http2_cleartext http2_max_concurrent_streams http2_initial_window_size
        http2_max_frame_size http2_max_header_list_size
        """),
        _HTTP2,
    ),
    **dict.fromkeys(
        _names("""
        permit_obsolete_folding strip_header_spaces permit_unconventional_http_method
        permit_unconventional_http_version casefold_http_method forwarder_headers header_map
        """),
        _PARSING,
    ),
    "websocket_max_message_size": "give web.WebSocketResponse a max_msg_size",
    "root_path": "add the application to another one with add_subapp, or let the proxy cut it off",
    **dict.fromkeys(
        _names("""
        dirty_apps dirty_workers dirty_timeout dirty_threads dirty_graceful_timeout
        on_dirty_starting dirty_post_fork dirty_worker_init dirty_worker_exit
        """),
        _DIRTY,
    ),
}

WARNED = {
    "reload_engine": "reload always uses watchfiles",
    "sendfile": "set AIOHTTP_NOSENDFILE=1 in the environment to avoid sendfile",
    "suppress_ragged_eofs": "asyncio decides it",
    "do_handshake_on_connect": "a handshake never blocks here",
    "http_parser": "aiohttp parses",
    "asgi_loop": "set loop",
    **dict.fromkeys(["asgi_lifespan", "asgi_disconnect_grace_period"], _ASGI),
    **dict.fromkeys(["control_socket", "control_socket_mode"], "there is no control socket"),
}

# With a logging.yaml these have no effect either.
REFUSED_BESIDE_LOGGING_YAML = dict.fromkeys(
    _names("""
    accesslog disable_redirect_access_to_syslog errorlog loglevel capture_output syslog_addr syslog
    syslog_prefix syslog_facility
    """),
    _LOGS,
)

# The master reads these at its start only; a change at a reload is warned of.
FIXED_AT_START = _names(
    """
    backlog balance daemon enable_stdio_inheritance logger_class pidfile proc_name pythonpath reload
    spew
    """
)

OURS = "API-Hour"  # the section of our own settings
OWN_WARNED = {"auto_config": "the configuration is always found by the application's name"}


def refused(*, beside_logging_yaml: bool = False) -> dict[str, str]:
    """Return what cannot be set, and the cures."""
    names = REFUSED | (REFUSED_BESIDE_LOGGING_YAML if beside_logging_yaml else {})
    # Ours may replace one of Gunicorn's.
    return {name: cure for name, cure in names.items() if name not in own()}


def known() -> frozenset[str]:
    """Return the name of every setting that this API-Hour decides on, its own included."""
    return own().union(ACTS, ACTS_IN_OUR_WAY, REFUSED, WARNED)


def own() -> frozenset[str]:
    """Return the names of our own settings."""
    return frozenset(setting.name for setting in KNOWN_SETTINGS if setting.section == OURS)
