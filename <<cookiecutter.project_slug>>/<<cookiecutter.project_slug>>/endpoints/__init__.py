"""Endpoints turn a request into a service call, and its result into a response."""
