"""A Django project in production settings, with Django Ninja."""
