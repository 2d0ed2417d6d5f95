"""The tests of the TechEmpower Framework Benchmarks: ``api_hour techempower:Container``."""

from .container import Container

__all__ = ["Container"]
