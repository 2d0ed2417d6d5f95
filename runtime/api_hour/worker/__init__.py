"""One process, one loop, one Container, from fork to exit."""
