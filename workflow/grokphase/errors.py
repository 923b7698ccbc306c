"""Errors that a user can cause and mend."""


class GrokphaseError(Exception):
    """A problem a user can mend: the message names the key or file, what is wrong, what is right.

    The command line prints the message alone and exits with status 1.
    """


class DivergenceError(GrokphaseError):
    """The dynamics diverged, or no proposal was accepted: the step size is too large."""
