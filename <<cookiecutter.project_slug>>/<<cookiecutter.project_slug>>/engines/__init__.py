"""Engines are the sources of data; the container opens and closes them."""
