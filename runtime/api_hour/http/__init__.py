"""Serves an ordinary aiohttp application; usable, and tested, without Gunicorn."""
