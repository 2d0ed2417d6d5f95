"""The tables and charts of the docs, made from the JSON results alone."""
