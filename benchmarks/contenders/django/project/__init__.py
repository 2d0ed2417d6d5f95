"""A Django project in production settings."""
