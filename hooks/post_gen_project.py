"""Remove the folders of what was not chosen, and print the next commands."""

import shlex
from pathlib import Path

PROJECT = Path.cwd()

for name in ("engines", "migrations", "services"):
    folder = PROJECT / PROJECT.name / name
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()

print(f"""
{PROJECT.name} is ready. Next:

    cd {shlex.quote(str(PROJECT))}
    make run     # serves it, with live reload
    make help    # lists the other verbs
""")
