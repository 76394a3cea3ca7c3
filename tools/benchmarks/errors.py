"""The errors of a benchmark."""

from pretrain.runtime.errors import UserError


class BenchmarkError(UserError):
    """A benchmark that cannot be run as it was asked for, or whose process died."""
