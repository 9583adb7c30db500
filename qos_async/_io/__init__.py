"""The shell: sockets, tasks, the clock and the log."""

import logging

# A library writes to the log only where its user has asked for one.
logging.getLogger("qos_async").addHandler(logging.NullHandler())
