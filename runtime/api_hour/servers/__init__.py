"""Turns a listening socket into served connections, for any protocol."""
