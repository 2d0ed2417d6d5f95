"""Reads everything an operator wrote and returns one frozen, checked Generation.

It opens no socket, forks nothing and imports no project code.
"""
