"""The images that cannot be read: others take their place, each is logged once by name, and too many stop the run."""

import logging
from typing import Any

import torch
from torch import Tensor

from pretrain.data.images.image_set import ImageSet
from pretrain.runtime import distributed
from pretrain.runtime.errors import PretrainError, StorageError, UserError, listed

log = logging.getLogger(__name__)

NAMED = 5  # images that the message of a stop names; the log has named all


class BrokenImages:
    """The broken images that a run has met so far, the same on all ranks after `share`.

    Args:
        images: what the indices mean.
        max_share: the share of all images that may be broken, 0 to 1.
    """

    def __init__(self, images: ImageSet, max_share: float) -> None:
        self.images, self.max_share = images, max_share
        self._known: set[int] = set()
        self._new: set[int] = set()  # met by this rank, and not by all together yet

    @property
    def count(self) -> int:
        """The number of broken images that all ranks know."""
        return len(self._known)

    def note(self, requested: Tensor, used: Tensor) -> bool:
        """Compare the requested with the used indices of a batch of this rank, (N,) int64 each.

        Returns True where this rank has met broken images that not all ranks know: then all must call `share`.
        """
        self._new |= set(requested[requested != used].tolist()) - self._known
        return bool(self._new)

    def share(self) -> None:
        """Join the broken images that the ranks have met, and log the new ones by name. All ranks must call it.

        Where more than `max_share` of all images would be broken, all known ones are read again, and those that can be
        read by now no longer count. Where still too many cannot, raises on all ranks, and knows what it knew before, so
        that a run resumed after the repair is as if they had never been broken: PretrainError for broken files,
        StorageError where it is the storage that does not answer.
        """
        met = set().union(*distributed.all_gather_object(self._new)) - self._known
        self._new = set()
        if distributed.is_main():
            for index in sorted(met):
                log.warning("warning: %s; another image is used in its place", self._fault(index))
        known = self._known | met
        if len(known) > self.max_share * len(self.images):
            known = distributed.on_main(lambda: self._still_broken(known))
        self._known = known

    def _still_broken(self, known: set[int]) -> set[int]:
        """Return those that still cannot be read. Raises UserError where they are too many."""
        limit = self.max_share * len(self.images)
        faults = {index: error for index in sorted(known) if (error := self._error(index))}
        if len(faults) > limit:
            silent = [index for index, error in faults.items() if isinstance(error, StorageError)]
            if len(faults) - len(silent) > limit:
                raise PretrainError(self._too_many(list(faults)))
            raise StorageError(f"data.root: {len(faults)} of {len(self.images)} images; {faults[silent[0]]}")
        if len(faults) < len(known):
            log.warning("warning: %d images that could not be read can be read again", len(known) - len(faults))
        return set(faults)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint: the indices of the known ones, (count,) int64, sorted."""
        return {"indices": torch.tensor(sorted(self._known), dtype=torch.int64)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave: these are known and not named again."""
        self._known, self._new = set(state["indices"].tolist()), set()

    def _fault(self, index: int) -> str:
        """Return the name and the fault of an image. It is read again: only the worker that met the fault knows it."""
        error = self._error(index)
        return str(error) if error else f"{self.images.name(index)}: could not be read for a time"

    def _error(self, index: int) -> UserError | None:
        try:
            self.images.read(index)
        except UserError as error:
            return error
        return None

    def _too_many(self, broken: list[int]) -> str:
        named = listed(map(self.images.name, broken), NAMED)
        return (
            f"data.max_broken: {len(broken)} of {len(self.images)} images cannot be read, more than the share of "
            f"{self.max_share:g}: {named}. `python tools/check_images.py ROOT` finds all; mend "
            "them or raise data.max_broken (a run that has begun keeps its images: without them it cannot be resumed)"
        )
