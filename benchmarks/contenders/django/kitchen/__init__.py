"""The kitchen table."""
