"""TLS of one listener: a server context from PEM files, which every new worker reads again."""

import ssl

from api_hour.config.addresses import Address
from api_hour.exceptions import ConfigError


def context(address: Address) -> ssl.SSLContext | None:
    """Return the listener's context, or None without a certificate; raises ConfigError."""
    if not address.certificate:
        return None
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        made.load_cert_chain(address.certificate, address.key or None, password=_no_password)
    except FileNotFoundError:
        files = " or ".join(filter(None, (address.certificate, address.key)))
        raise ConfigError(f"listener {address.name}: {files} does not exist") from None
    except OSError as error:  # SSLError is one
        raise ConfigError(
            f"listener {address.name}: {address.certificate} is not a good certificate with its "
            f"key: {error.strerror or error}"
        ) from None
    return made


def _no_password() -> str:
    """Raise OSError: without this function OpenSSL would ask for a password on the terminal."""
    raise OSError("the key is encrypted; store it without a password, readable to its owner only")
