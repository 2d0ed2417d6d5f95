"""``module:Name`` of the Container, as the command line takes it."""

import pytest

from api_hour.config.generation import split
from api_hour.exceptions import ConfigError


@pytest.mark.parametrize("text", ["", "hello", ":Container", "hello:", "hello:Con tainer", "a:b:c"])
def test_a_spec_without_module_or_name_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"names no Container: write MODULE:NAME, as in hello:"):
        split(text)
