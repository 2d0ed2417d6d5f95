"""Endpoints say by their types what they take and give, and call a service in between."""
