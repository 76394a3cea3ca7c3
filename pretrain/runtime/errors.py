"""The one exception of the pretraining stage that is a user's mistake and not a bug."""


class PretrainError(Exception):
    """Bad input: the message says what is wrong, where, and what would be right. Tools print it and exit with 2."""


def from_worker(error: PretrainError) -> PretrainError:
    """The error in one line: a loader worker's arrives as where it was caught, its traceback, then what it said."""
    return PretrainError(str(error).rsplit("PretrainError: ", maxsplit=1)[-1].strip())
