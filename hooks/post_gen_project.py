"""Remove the folders of what was not chosen, and print the next commands."""

import shlex
from pathlib import Path

PROJECT = Path.cwd()

folders = [path for path in PROJECT.rglob("*") if path.is_dir() and ".git" not in path.parts]
for folder in sorted(folders, reverse=True):  # what lies in a folder comes before it
    if not any(folder.iterdir()):
        folder.rmdir()

print(f"""
{PROJECT.name} is ready. Next:

    cd {shlex.quote(str(PROJECT))}
    make run     # serves it, with live reload
    make help    # lists the other verbs
""")
