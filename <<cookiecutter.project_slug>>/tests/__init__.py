"""The tests: each layer alone, then the daemon as a process."""
