"""How Sphinx builds these pages: without a network, and every warning is an error."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "API-Hour"
release = version_of("api-hour-runtime")
version = ".".join(release.split(".")[:2])
language = "en"

extensions = ["sphinx.ext.autodoc", "generated", "not_run", "product"]
exclude_patterns = ["tests"]
default_role = "any"
highlight_language = "python"  # of included files that say no other
nitpicky = True
smartquotes = False  # options begin with two hyphens

html_theme = "furo"
html_title = f"API-Hour {version}"
html_copy_source = False
html_show_copyright = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# Pages load nothing, so nothing is linked that is documented elsewhere.
nitpick_ignore_regex = [("py:.*", r"(?!api_hour\.).*|api_hour\.[\w.]+\.(T|Row)")]
