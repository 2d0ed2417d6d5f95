"""Every test begins with a terminal's signals: nohup and a shell's background ignore some of them."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.SIG_DFL)
