"""The errors of the launcher."""

from pretrain.runtime.errors import UserError


class LaunchError(UserError):
    """A command, a pipeline file, a run's record or a cluster that does not allow what was asked for."""
