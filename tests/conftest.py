"""For all tests: child processes start with the signals of a program run by hand."""

import signal

# Where the parent ignores SIGINT (nohup, the background of a script), children would too, and so would their children.
# A handler is not inherited: a program that is started gets the default back.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
