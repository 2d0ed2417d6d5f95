"""Answers simple requests sooner than aiohttp, and never differently."""
