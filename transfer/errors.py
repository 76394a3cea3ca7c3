"""The one exception of the transfer stage that is a user's mistake and not a bug."""

from pretrain.runtime.errors import UserError


class TransferError(UserError):
    """Bad input: the message says what is wrong, where, and what would be right. Tools print it and exit with 2."""
