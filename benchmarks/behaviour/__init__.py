"""What servers do at reload, stop, crash and block: each is started, hurt and asked.

The clients are those of the runtime's chaos suite, which account for every request.
"""

import sys
from pathlib import Path

# Where the packages ``chaos`` and ``daemon`` are, which pytest finds by its own settings.
sys.path.append(str(Path(__file__).parents[2] / "runtime" / "tests"))
