"""Processes that Ctrl-C ends."""

import signal


def heard():
    """For `preexec_fn`: SIGINT does what it does in a terminal, though a shell that runs the tests
    in the background has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
