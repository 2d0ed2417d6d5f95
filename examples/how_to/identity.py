"""API keys and bearer tokens: ``api_hour identity:Container``; it needs ``pip install joserfc``."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import api_hour
import msgspec
from aiohttp import web
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

ALGORITHMS = ["RS256", "ES256"]  # those of the issuer, never what the token asks for
LEEWAY = 30  # seconds that two clocks may differ
EVERY = 600.0  # seconds between two looks at the issuer's keys
PAUSE = 1.0  # seconds between two at least, however many tokens are signed with unknown keys


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    api_keys: list[str]
    issuer: str
    keys_url: str
    audience: str


class User(msgspec.Struct, frozen=True):
    """Who asks, as the token says."""

    sub: str
    scope: str = ""


class Tokens:
    """Tokens of one issuer, and the keys that they are signed with."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.keys_url
        self._keys: KeySet | None = None
        self._wanted = asyncio.Event()
        self._claims = jwt.JWTClaimsRegistry(
            leeway=LEEWAY,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": settings.audience},
            exp={"essential": True},
        )

    async def verify(self, token: str) -> User | None:
        """Return the user; None if the token is not valid."""
        if self._keys is None:
            raise api_hour.EngineUnavailable("the issuer has not told its keys yet")
        try:
            decoded = jwt.decode(token, self._keys, algorithms=ALGORITHMS)
            self._claims.validate(decoded.claims)
            return msgspec.convert(decoded.claims, User)
        except InvalidKeyIdError:
            self._wanted.set()  # the issuer may have a new key
        except (JoseError, ValueError):  # msgspec's is a ValueError
            pass
        return None

    async def keep_keys(self, session: aiohttp.ClientSession) -> None:
        """Fetch the keys again and again; the known ones stay while the issuer is away."""
        while True:
            self._wanted.clear()
            try:
                async with session.get(self._url, raise_for_status=True) as response:
                    self._keys = KeySet.import_key_set(await response.json())
            except (aiohttp.ClientError, TimeoutError, JoseError, ValueError, KeyError) as error:
                logging.warning("No keys from %s for now: %s", self._url, error)
            await asyncio.sleep(PAUSE)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), EVERY if self._keys else 0)


async def user(request: web.Request) -> User:
    """Return what ``verify`` did; a parameter of the type User asks for it."""
    found: User = request[api_hour.Bearer.CLAIMS]
    return found


async def me(user: User) -> User:
    """Say who you are."""
    return user


async def announce(text: api_hour.Body[str], user: User) -> None:
    """Tell everybody something."""
    if "announce" not in user.scope.split():
        raise web.HTTPForbidden(text="This needs the scope announce")
    logging.info("%s says: %s", user.sub, text)


async def store_readings(values: api_hour.Body[list[float]]) -> None:
    """Store what a machine has measured."""
    logging.info("%d values", len(values))


class Container(api_hour.Container):
    settings = Settings

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        patience = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=patience) as session, asyncio.TaskGroup() as tasks:
            self.tokens = Tokens(self.config)
            keeping = tasks.create_task(self.tokens.keep_keys(session))
            yield
            keeping.cancel()

    def servers(self) -> dict[str, api_hour.Server]:
        app = web.Application()
        api = api_hour.API(app, title="Identity", version="1.0")
        api.provide(user)
        people = api.group(security=api_hour.Bearer(self.tokens.verify))
        people.get("/me", me)
        people.post("/announcements", announce, errors=[403])
        machines = api.group(security=api_hour.APIKey(self.config.api_keys))
        machines.post("/readings", store_readings)
        return {"http": api_hour.HTTPServer(app)}
