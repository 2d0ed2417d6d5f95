"""Tests of the daemon against TechEmpower's rules."""
