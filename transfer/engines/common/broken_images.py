"""The training images that cannot be read: others take their place, each is logged once, and too many stop the run."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pretrain.runtime import distributed, seeds
from pretrain.runtime.errors import StorageError, UserError, listed
from transfer.data.common.images import read_image
from transfer.errors import TransferError, UnreadableImageError

REPLACEMENTS = 32  # images tried in place of a broken one; in a set with one in ten broken, 1e-32 fail
NAMED = 5  # images that the message of a stop names; the log has named all
UNREADABLE = (UnreadableImageError, StorageError)  # what reading an image raises of the image itself

log = logging.getLogger(__name__)


def replacements(index: int, size: int) -> Iterator[int]:
    """Yield the record to use, then those to use in its place, in an order that `index` alone decides."""
    yield index
    for attempt in range(REPLACEMENTS):
        yield seeds.seed_of("replacement", index, attempt) % size


def none_readable(faults: Sequence[UserError]) -> UserError:
    """Return the error of an image that cannot be read, nor any of those that were tried in its place."""
    outage = next((fault for fault in faults if isinstance(fault, StorageError)), None)
    kind = StorageError if outage else TransferError
    tried = f"{len(faults) - 1} other images, tried in its place, cannot be read either. Is the storage there?"
    return kind(f"{outage or faults[0]}; {tried}")


class BrokenImages:
    """The broken images that a run has replaced so far, the same on all ranks after `share`.

    Args:
        records: the images to train on, Detectron2's standard dicts.
        max_share: the share of them that may be broken, 0 to 1.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]], max_share: float) -> None:
        self.records, self.max_share = records, max_share
        self._known: set[int] = set()
        self._new: dict[int, UserError] = {}  # met by this rank, and not by all together yet

    @property
    def count(self) -> int:
        """The number of broken images that all ranks know."""
        return len(self._known)

    def note(self, faults: Mapping[int, UserError]) -> bool:
        """Take note of the faults in a batch of this rank, by the index of the record.

        Returns True where this rank has met broken images that not all ranks know: then all must call `share`.
        """
        self._new |= {index: fault for index, fault in faults.items() if index not in self._known}
        return bool(self._new)

    def share(self) -> None:
        """Join the broken images that the ranks have met, and log the new ones. All ranks must call it.

        Raises TransferError or StorageError on all ranks where more than `max_share` of all images cannot be read; it
        then knows what it knew before, so that a run resumed after the repair is as if they had never been broken.
        """
        met: dict[int, UserError] = {}
        for of_rank in reversed(distributed.all_gather_object(self._new)):
            met |= of_rank
        self._new = {}
        met = {index: met[index] for index in sorted(met) if index not in self._known}
        if distributed.is_main():
            for fault in met.values():
                log.warning("warning: %s; another image is used in its place", fault)
        known = self._known | met.keys()
        if len(known) > self.max_share * len(self.records):
            distributed.on_main(lambda: self._refuse_too_many(known))
        self._known = known

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint: the indices of the known ones, sorted."""
        return {"indices": sorted(self._known)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave: these are known and not named again."""
        self._known, self._new = set(state["indices"]), {}

    def _refuse_too_many(self, known: set[int]) -> None:
        """Read the known ones again, and raise where too many of them still cannot be read."""
        faults = {index: fault for index in sorted(known) if (fault := self._fault(index))}
        limit = self.max_share * len(self.records)
        if len(faults) <= limit:
            return
        silent = [fault for fault in faults.values() if isinstance(fault, StorageError)]
        if len(faults) - len(silent) <= limit:
            raise StorageError(f"{len(faults)} of {len(self.records)} training images; {silent[0]}")
        raise TransferError(
            f"--max-broken: {len(faults)} of {len(self.records)} training images cannot be read, more than the share "
            f"of {self.max_share:g}: {listed(faults.values(), NAMED, '; ')}. `python tools/check_images.py FOLDER` "
            "finds all. Repair them, or raise --max-broken"
        )

    def _fault(self, index: int) -> UserError | None:
        try:
            read_image(self.records[index]["file_name"])
        except UNREADABLE as error:
            return error
        return None
