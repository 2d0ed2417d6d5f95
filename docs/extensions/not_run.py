"""The directive ``not-run``: commands that no test types, with the reason in the reader's sight.

.. not-run:: it needs a cluster

   $ kubectl apply -k deploy/kubernetes/production
"""

from typing import ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata


class NotRun(SphinxDirective):
    """Show commands, and below them why no test runs them."""

    required_arguments: ClassVar[int] = 1
    final_argument_whitespace: ClassVar[bool] = True
    has_content: ClassVar[bool] = True

    def run(self) -> list[nodes.Node]:
        """Return the block and its reason."""
        text = "\n".join(self.content)
        block = nodes.literal_block(text, text, language="console", classes=["not-run"])
        self.set_source_info(block)
        reason, messages = self.parse_inline(f"No test runs this: {self.arguments[0]}.")
        return [block, nodes.paragraph("", "", *reason, classes=["not-run"]), *messages]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Add the directive."""
    app.add_directive("not-run", NotRun)
    return {"version": "1", "parallel_read_safe": True}
