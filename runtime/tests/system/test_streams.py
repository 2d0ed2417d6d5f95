"""What waits in a stream at the exit of its process is written, by that process alone."""

import subprocess
import sys

COUNT = 3000  # lines: far more than a pipe holds
PROGRAM = f"""\
import os
import sys
from api_hour.logs import streams

out = streams.of(sys.stdout)
for number in range({COUNT}):
    out.write(b"%d %b\\n" % (number, b"x" * 100))
if not os.fork():
    out.write(b"child\\n")
    streams.drain(60)
    os._exit(0)
os.wait()
"""


def test_a_process_that_exits_writes_what_waits_and_its_child_does_not() -> None:
    program = subprocess.run([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, check=True)
    heard = program.stdout.splitlines()
    expected = [b"%d %b" % (number, b"x" * 100) for number in range(COUNT)]
    assert [line for line in heard if line != b"child"] == expected
    assert heard.count(b"child") == 1
