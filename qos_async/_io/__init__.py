"""The shell: sockets, tasks, the clock and the log."""
