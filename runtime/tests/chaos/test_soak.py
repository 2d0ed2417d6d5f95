"""The soak in its short form."""

from pathlib import Path

from runtime.tests.chaos.soak import SHORT, soak


def test_mixed_traffic_loses_nothing_to_reloads_and_little_to_kills(tmp_path: Path) -> None:
    result = soak(SHORT, tmp_path)
    print(result.table())
    assert result.reloads >= 3
    assert result.kills
    assert all(account.answered for _, account in result.accounts())
    assert not result.losses()
