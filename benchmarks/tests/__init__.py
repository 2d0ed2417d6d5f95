"""Tests of the benchmarks, on small servers and with the real tools."""
