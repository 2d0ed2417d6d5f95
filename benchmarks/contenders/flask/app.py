"""The cases on Flask: ``gunicorn app:app``."""

import os

from flask import Flask, jsonify, request
from flask.json.provider import DefaultJSONProvider
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

AGENT = "SELECT id, number, first_name, last_name FROM agent_features WHERE id = %s"
AGENTS = """
    SELECT id, number, first_name, last_name, extension, context, state_interface
    FROM agent_features LEFT JOIN agent_login_status ON agent_id = id ORDER BY id
"""


class Compact(DefaultJSONProvider):
    """Writes the same bytes as the others: in the given order, without spaces or a newline."""

    sort_keys = False

    def response(self, data):
        return app.response_class(self.dumps(data, separators=(",", ":")), mimetype=self.mimetype)


app = Flask(__name__)
app.json = Compact(app)
options = {"autocommit": True, "row_factory": dict_row}
pool = ConnectionPool(os.environ["DATABASE_URL"], kwargs=options, min_size=1, max_size=10)


@app.get("/index")
def index():
    return {"message": "Hello, World!"}


@app.get("/hello/<name>")
def hello(name):
    return {"greeting": request.args["greeting"], "name": name}


@app.post("/echo")
def echo():
    return jsonify(request.get_json())


@app.get("/agents")
def agents():
    with pool.connection() as connection:
        return connection.execute(AGENTS).fetchall()


@app.get("/agents/<int:number>")
def agent(number):
    with pool.connection() as connection:
        return connection.execute(AGENT, [number]).fetchone()


@app.get("/agents/first/<int:count>")
def first(count):
    with pool.connection() as connection:
        return [connection.execute(AGENT, [n]).fetchone() for n in range(1, count + 1)]
