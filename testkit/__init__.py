"""What several test trees use: no tree imports another."""
