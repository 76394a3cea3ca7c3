"""The errors of the launcher."""

from pretrain.runtime.errors import UserError


class LaunchError(UserError):
    """A command, a pipeline file, a run's record or a cluster that does not allow what was asked for."""


class SilentError(LaunchError):
    """A cluster that does not answer; the same command may succeed later."""


class QueueLimitError(LaunchError):
    """A cluster that takes no more jobs of this user for now."""
