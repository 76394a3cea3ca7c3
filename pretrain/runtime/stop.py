"""A request to stop that all ranks of a run obey at the same point, so that none waits for one that has left."""

from pretrain.runtime import distributed
from pretrain.runtime.signals import StopRequest


def asked(stop: StopRequest) -> bool:
    """Whether any rank has been asked to stop; every rank calls it and gets the same answer."""
    (answer,) = distributed.agree(None, stop.name is not None)
    return answer


def names(stop: StopRequest) -> str:
    """The signals that came to any of the ranks, for a message; every rank calls it."""
    return " and ".join(sorted({name for name in distributed.all_gather_object(stop.name) if name}))
