"""SQL that the development PostgreSQL's role may not run."""

import subprocess
import sys
from pathlib import Path


def as_superuser(data: Path, sql: str) -> None:
    """Run SQL in the cluster of the folder ``data``, whose server does not run yet."""
    command = [sys.executable, "-m", "api_hour.plugins.embedded", "--superuser"]
    subprocess.run(
        [*command, "--data", str(data)], input=sql.encode(), capture_output=True, check=True
    )
