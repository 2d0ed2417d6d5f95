"""The page of fortunes: the table's rows and one more, sorted, in an escaping template."""

from operator import itemgetter

from jinja2 import Environment, PackageLoader

from api_hour.plugins.asyncpg import Pool

ADDED = (0, "Additional fortune added at request time.")
TEMPLATES = Environment(loader=PackageLoader("techempower"), autoescape=True, trim_blocks=True)
PAGE = TEMPLATES.get_template("fortunes.html")


async def page(pool: Pool) -> str:
    """Return the page."""
    async with pool.connection() as connection:
        rows = await connection.fetch("SELECT id, message FROM fortune")
    fortunes = sorted([*rows, ADDED], key=itemgetter(1))
    return PAGE.render(fortunes=fortunes)
