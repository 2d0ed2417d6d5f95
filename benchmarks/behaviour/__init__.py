"""What servers do at reload, stop, crash and block: each is started, hurt and asked.

The clients are those of the chaos suite, which account for every request.
"""
