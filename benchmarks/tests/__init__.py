"""The runner itself, on small servers and on the real programs that it measures with."""
