"""Errors that a user can cause and mend."""

import os


class GrokphaseError(Exception):
    """A problem a user can mend: the message names the key or file, what is wrong, what is right.

    The command line prints the message alone and exits with status 1.
    """

    exit_status = 1


class DivergenceError(GrokphaseError):
    """The dynamics diverged, or no proposal was accepted: the step size is too large."""


class StoppedError(GrokphaseError):
    """The computation was asked to stop, saved its state and can be continued."""

    exit_status = os.EX_TEMPFAIL  # 75: to be run again
