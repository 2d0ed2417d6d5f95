"""How servers behave under reloads, stops, crashes and blocked loops, with clients at work.

The clients are those of the chaos suite, which account for every request.
"""
