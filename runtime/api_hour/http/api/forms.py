from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
class Form:
    pass
@asynccontextmanager
async def read_form(request, limit):
    yield Form()
