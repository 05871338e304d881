"""The one exception that means "the input is at fault, not the program"."""


class InputError(ValueError):
    """Something the user gave is wrong. The message names the thing and says what to do about it.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """
