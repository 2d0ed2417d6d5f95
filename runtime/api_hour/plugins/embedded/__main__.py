"""Run ``python -m api_hour.plugins.embedded``."""

import sys

from api_hour.plugins.embedded import main

sys.exit(main())
