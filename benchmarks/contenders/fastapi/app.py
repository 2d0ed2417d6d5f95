"""The cases on FastAPI: ``uvicorn app:app``."""

import os
from contextlib import asynccontextmanager

import asyncpg
from fastapi import FastAPI
from pydantic import BaseModel

AGENT = "SELECT id, number, first_name, last_name FROM agent_features WHERE id = $1"
AGENTS = """
    SELECT id, number, first_name, last_name, extension, context, state_interface
    FROM agent_features LEFT JOIN agent_login_status ON agent_id = id ORDER BY id
"""


class Message(BaseModel):
    message: str
    numbers: list[int]


class Agent(BaseModel):
    id: int
    number: str
    first_name: str
    last_name: str


class AgentWithStatus(Agent):
    extension: str | None
    context: str | None
    state_interface: str | None


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=10) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/index")
async def index():
    return {"message": "Hello, World!"}


@app.get("/hello/{name}")
async def hello(name: str, greeting: str):
    return {"greeting": greeting, "name": name}


@app.post("/echo")
async def echo(message: Message) -> Message:
    return message


@app.get("/agents")
async def agents() -> list[AgentWithStatus]:
    async with app.state.pool.acquire() as connection:
        return [dict(row) for row in await connection.fetch(AGENTS)]


@app.get("/agents/{number}")
async def agent(number: int) -> Agent:
    async with app.state.pool.acquire() as connection:
        return dict(await connection.fetchrow(AGENT, number))


@app.get("/agents/first/{count}")
async def first(count: int) -> list[Agent]:
    async with app.state.pool.acquire() as connection:
        return [dict(await connection.fetchrow(AGENT, n)) for n in range(1, count + 1)]
