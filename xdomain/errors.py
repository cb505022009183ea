"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Bad input, told in one sentence that names the file, key or value and the way out.

    The command line prints its text and exits with status 2; no traceback is shown.
    """
