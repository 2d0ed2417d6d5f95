"""Tests of the plugins; a package, so that its conftest has a name of its own."""
