"""Owns the sockets and the worker processes; never imports project code, never blocks."""
