"""Tests of the development PostgreSQL as processes: real servers, signals and terminals."""
