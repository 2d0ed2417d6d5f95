"""The rules, held against the daemon."""
