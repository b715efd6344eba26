"""Settings shared by every test: no deadlines, the same examples on every CI run, Ctrl-C heard."""

import os
import signal

from hypothesis import settings

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")

# A shell starts what it puts in the background deaf to Ctrl-C, and so would be the programs that
# the tests run.
signal.signal(signal.SIGINT, signal.default_int_handler)
