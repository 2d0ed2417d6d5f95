"""API-Hour beside other servers, measured in one run; ``python -m benchmarks --help``."""
