"""Run ``python -m api_hour`` as the command ``api_hour``."""

from api_hour.cli import main

main()
