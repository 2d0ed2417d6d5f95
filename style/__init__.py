"""Plain English: the phrases of ``words.toml``, which a native engineer would not write."""
