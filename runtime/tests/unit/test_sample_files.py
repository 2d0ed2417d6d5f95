"""What the workers' user puts into the folder of the metrics does not stop the master."""

import os
from pathlib import Path

import pytest

from api_hour.metrics import sample_files
from api_hour.metrics.sample_files import Sample, SampleFiles


def test_a_pipe_instead_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    sample_files.make(str(folder), os.geteuid(), os.getegid())
    for name in ("m0.lock", "counter_m0.db"):
        os.mkfifo(folder / name)
    files = SampleFiles(str(folder), os.geteuid(), os.getegid(), prefix="m")
    Sample(files, "counter", "key").add(1.0)
    with pytest.raises(OSError, match="is not this process's own"):
        files.save()
    files.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_a_folder_is_given_away_and_what_stands_there_instead_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    sample_files.make(str(folder), 54321, 54322)
    assert (folder.stat().st_uid, folder.stat().st_gid) == (54321, 54322)
    secret, link = tmp_path / "secret", tmp_path / "link"
    secret.mkdir()
    link.symlink_to(secret)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        sample_files.give(str(link), 54321, 54322)
    assert secret.stat().st_uid == 0
