"""TLS of a listener: its context is made in the master, once for each generation.

The PEM files are read when a generation is, by root where root starts the daemon. Workers inherit
the finished context by the fork. So all workers of a generation show the same certificate, even
one that starts long after the files were replaced, and a client may resume its session with any
of them. Files that do not fit together refuse the generation, and the old one goes on.
"""

import ssl
from collections.abc import Callable, Sequence

from api_hour.config.addresses import KeyPair, ListenerSettings
from api_hour.exceptions import ConfigError

VERIFY = {"": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

Wrap = Callable[[ssl.SSLContext], ssl.SSLContext]


def context(listener: ListenerSettings, wrap: Wrap) -> ssl.SSLContext | None:
    """Return the listener's context, or None without a certificate; raises ConfigError.

    ``wrap`` may change each context that is made, or return another one. With several certificates
    a client gets the first whose subjectAltName matches the name that it asks for, otherwise the
    first of all.
    """
    contexts = [wrap(_of_pair(listener, pair)) for pair in listener.key_pairs]
    if not contexts:
        return None
    if len(contexts) > 1:
        by_name = _by_name(listener, contexts)
        contexts[0].sni_callback = lambda tls, asked, _: _choose(tls, asked, by_name)
    return contexts[0]


def _of_pair(listener: ListenerSettings, pair: KeyPair) -> ssl.SSLContext:
    """Return a context with one certificate, and with what the listener says of all."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.options |= ssl.OP_NO_RENEGOTIATION  # each is a signature; OpenSSL 3 has it by default
    try:
        made.load_cert_chain(pair.certificate, pair.key or None, password=_no_password)
    except OSError as error:  # SSLError is one
        fault = "is not a good certificate with its key: "
        raise _unusable(listener, (pair.certificate, pair.key), fault, error) from None
    if listener.tls_min:
        made.minimum_version = VERSIONS[listener.tls_min]
    try:
        if listener.ciphers:
            made.set_ciphers(listener.ciphers)
    except ssl.SSLError:
        raise ConfigError(
            f"listener {listener.name}: ciphers {listener.ciphers!r} selects none: "
            "`openssl ciphers -v` shows what it knows"
        ) from None
    try:
        if listener.ca:
            made.load_verify_locations(listener.ca)
            made.verify_mode = VERIFY[listener.verify or "required"]
    except OSError as error:
        fault = "holds no good certificate of an authority: "
        raise _unusable(listener, (listener.ca,), fault, error) from None
    return made


def _no_password() -> str:
    """Raise OSError: without this function OpenSSL would ask for a password on the terminal."""
    raise OSError("the key is encrypted; store it without a password, readable to its owner only")


def _unusable(
    listener: ListenerSettings, files: Sequence[str], fault: str, error: OSError
) -> ConfigError:
    """Return an error that names the file, which OpenSSL does not."""
    for file in filter(None, files):
        try:
            with open(file, "rb"):
                pass
        except FileNotFoundError:
            return ConfigError(f"listener {listener.name}: {file} does not exist")
        except OSError as cause:
            return ConfigError(f"listener {listener.name}: {file} cannot be read: {cause.strerror}")
    return ConfigError(f"listener {listener.name}: {files[0]} {fault}{error.strerror or error}")


def _by_name(
    listener: ListenerSettings, contexts: Sequence[ssl.SSLContext]
) -> dict[str, ssl.SSLContext]:
    """Return the context of each name that a certificate holds; the first one keeps a name."""
    found: dict[str, ssl.SSLContext] = {}
    for pair, made in zip(listener.key_pairs, contexts, strict=True):
        try:
            # Python shows the names of a peer's certificate only, and of a file by this alone.
            decoded = ssl._ssl._test_decode_cert(pair.certificate)  # type: ignore[attr-defined]
        except OSError as error:
            raise _unusable(listener, (pair.certificate,), "cannot be read: ", error) from None
        names = {name.lower() for kind, name in decoded.get("subjectAltName", ()) if kind == "DNS"}
        if not names - found.keys() and made is not contexts[0]:
            raise ConfigError(
                f"listener {listener.name}: {pair.certificate} names no host in its subjectAltName "
                "that an earlier certificate does not name, so no client could get it: remove it"
            )
        found = dict.fromkeys(names, made) | found
    return found


def _choose(
    tls: ssl.SSLObject | ssl.SSLSocket, asked: str | None, by_name: dict[str, ssl.SSLContext]
) -> None:
    """Give a handshake the certificate of the name that the client asks for, if there is one."""
    name = (asked or "").lower()
    made = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
    if made is not None:
        tls.context = made
