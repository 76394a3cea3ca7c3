"""The validation by the weighted k nearest neighbours of a feature (InstDisc, arXiv 1805.01978, section 3.4).

An image gets the class whose neighbours weigh most, exp(cosine / T) each. Nothing is trained, so it measures
any checkpoint, at any epoch.

Ties: of equally similar neighbours those that come first in the bank are taken, of classes that weigh the same the
one that comes first by name.
"""

import concurrent.futures
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.data.images.integrity import header_fault
from pretrain.data.images.labelled_set import LabelledImages, is_split, open_train_and_val, open_tree
from pretrain.evaluation import features
from pretrain.runtime import distributed
from pretrain.runtime.errors import PretrainError, listed
from pretrain.runtime.signals import StopRequest

log = logging.getLogger(__name__)

READERS = 16  # headers that a process reads at a time: most of it is waiting for the storage
QUERIES, BANK = 1024, 16384  # similarities that stand in memory at once: QUERIES x BANK


class KnnMonitor:
    """The kNN accuracy of an encoder on a labelled folder. All ranks make one and call it together.

    Where `root` holds train/ and val/, the images of train vote on those of val; else all but the image itself vote on
    each ("leave-one-out").

    Args:
        root: folder with a folder a class, or train/ and val/ of these.
        size: side of the centre crop in pixels.
        k: neighbours that vote; all of them where the bank is smaller.
        temperature: T of a vote's weight.
        batch_size: images of one forward pass.
        workers: processes that read images, started anew each time (0: this one).
        setting: what messages call `root`.
        max_broken: share of the images whose files may be broken. These are left out, with a warning.

    Raises PretrainError for a folder that is missing, empty or of another layout, and for more broken images. Only the
    header of each is read; what turns out broken in a validation is left out too, and counted in its numbers.
    """

    def __init__(
        self,
        root: str,
        size: int = 224,
        k: int = 200,
        temperature: float = 0.07,
        batch_size: int = 128,
        workers: int = 0,
        setting: str = "knn.root",
        max_broken: float = 0.0,
    ) -> None:
        self.setting, self.left_out = setting, 0
        self.notices: list[str] = []  # what the user should know before the first validation
        self.size, self.temperature, self.batch_size, self.workers = size, temperature, batch_size, workers
        self.bank, self.queries = distributed.on_main(lambda: _open(root, setting))  # one walk through the folders
        self._k = k
        self._refuse_broken(max_broken)

    @property
    def k(self) -> int:
        """The number of neighbours that vote."""
        return min(self._k, len(self.bank.images) - (self.queries is None))

    @property
    def protocol(self) -> str:
        return "leave-one-out" if self.queries is None else "train/val"

    def evaluate(self, encoder: nn.Module, device: torch.device, stop: StopRequest | None = None) -> dict[str, Any]:
        """Measure the share, in [0, 1], of images whose class is the first (knn_top1) or one of five (knn_top5).

        `encoder` is a torchvision ResNet with any head, the same on every rank; it is left as it was. Raises
        signals.Stopped on all ranks where `stop` asked one of them to while they read images.
        """
        while True:
            broken: list[list[int]] = [[], []]  # of this rank's share of bank and queries
            bank = self._own_features(self.bank, encoder, device, stop, broken[0])
            own = self._own_features(self.queries, encoder, device, stop, broken[1]) if self.queries else bank
            words = self._leave_out(broken)
            if not words:
                break
            if distributed.is_main():
                log.warning("warning: %s", words)
        judged = self.queries or self.bank
        best = predict_classes(
            features.gather_shares(own, len(judged.images)).to(device),
            bank,
            self.bank.labels,
            len(self.bank.classes),
            self.k,
            self.temperature,
            leave_one_out=self.queries is None,
        )
        hits = best == judged.labels[:, None]  # (Q, 5)
        return {
            "knn_top1": hits[:, 0].double().mean().item(),
            "knn_top5": hits.any(1).double().mean().item(),
            "knn_k": self.k,
            "knn_protocol": self.protocol,
            **({"knn_left_out": self.left_out} if self.left_out else {}),
        }

    def _own_features(
        self,
        part: LabelledImages,
        encoder: nn.Module,
        device: torch.device,
        stop: StopRequest | None,
        broken: list[int],
    ) -> Tensor:
        return features.extract_own_share(
            encoder, part.images, device, self.size, self.batch_size, self.workers, stop=stop, broken=broken
        )

    def _refuse_broken(self, max_broken: float) -> None:
        """Read the header of every image, each rank its share. Raises PretrainError for too many broken ones."""
        found: list[dict[int, str]] = []  # of bank and queries: this rank's faults
        # Pillow's warnings are switched off in each thread; Python restores them right only around all.
        with warnings.catch_warnings(), concurrent.futures.ThreadPoolExecutor(READERS) as pool:
            for part in (self.bank, self.queries):
                own = features.share_of_rank(len(part.images) if part else 0)
                read = pool.map(lambda index, part=part: part and header_fault(part.images, index), own)
                found.append({index: fault for index, fault in zip(own, read, strict=True) if fault})
        faults = [fault for rank in distributed.all_gather_object(found) for part in rank for fault in part.values()]
        images = len(self.bank.images) + (len(self.queries.images) if self.queries else 0)
        if len(faults) > max_broken * images:
            raise PretrainError(
                f"{self.setting}: {len(faults)} of {images} images cannot be read, more than the share of "
                f"{max_broken:g} (data.max_broken): {listed(faults, separator='; ')}. Mend or remove them"
            )
        words = self._leave_out([list(part) for part in found])
        self.notices += [words] if words else []

    def _leave_out(self, broken: Sequence[Sequence[int]]) -> str:
        """Leave out images of the bank and of the queries that any rank names. Returns words on it, "" for none.

        All ranks must call it. Raises PretrainError where what is left is too little to measure anything.
        """
        bank, queries = (set().union(*shares) for shares in zip(*distributed.all_gather_object(broken), strict=True))
        if not bank and not queries:
            return ""
        names = [self.bank.images.name(index) for index in sorted(bank)]
        self.bank = self.bank.without(bank)
        if self.queries:
            names += [self.queries.images.name(index) for index in sorted(queries)]
            self.queries = self.queries.without(queries)
        self.left_out += len(names)
        if self.k < 1 or (self.queries and not len(self.queries.images)):
            raise PretrainError(f"{self.setting}: {self.left_out} images cannot be read, too few are left to validate")
        return f"{self.setting}: {len(names)} broken images are left out of the validation: {listed(names)}"


def _open(root: str, setting: str) -> tuple[LabelledImages, LabelledImages | None]:
    """Open the bank, and the queries where they are not the bank's own images."""
    return open_train_and_val(root, setting) if is_split(root) else (open_tree(root, setting), None)


@torch.no_grad()
def predict_classes(
    queries: Tensor,
    bank: Tensor,
    labels: Tensor,
    classes: int,
    k: int,
    temperature: float,
    leave_one_out: bool = False,
) -> Tensor:
    """Return the five likeliest classes of each query, the likeliest first: (Q, min(5, classes)) int64 on the CPU.

    Args:
        queries: (Q, C) all of them, on every rank; the work is done on their device.
        bank: (n, C) this rank's share of the N features that vote.
        labels: (N,) int64 on the CPU, of the whole bank.
        leave_one_out: query i is row i of the whole bank, and has no vote on itself.
    """
    own = features.share_of_rank(len(labels))
    best = []
    for first in range(0, len(queries), QUERIES):
        rows = queries[first : first + QUERIES]
        itself = torch.arange(first, first + len(rows)) - own.start if leave_one_out else None
        similarity, nearby = _over_ranks(
            *nearest_rows(rows, bank, k, itself), own.start, k
        )  # (rows, k) each, on the CPU
        best.append(vote(similarity, labels[nearby], classes, temperature)[:, :5])
    return torch.cat(best)


def nearest_rows(queries: Tensor, bank: Tensor, k: int, itself: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Find the k rows of the bank with the largest cosine, the largest first.

    Args:
        queries: (Q, C); the work is done on their device.
        bank: (N, C) on any device.
        itself: (Q,) int64, the row of the bank that is the query itself and does not count (no row: any other number).

    Returns:
        (Q, min(k, N)) cosines and rows. A row that does not count has the cosine -inf.
    """
    queries = F.normalize(queries, dim=1)
    similarity = queries.new_empty(len(queries), 0)
    nearby = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for first in range(0, len(bank), BANK):
        rows = F.normalize(bank[first : first + BANK].to(queries.device), dim=1)
        cosines = queries @ rows.T  # (Q, rows)
        if itself is not None:
            at = itself.to(queries.device) - first
            inside = ((at >= 0) & (at < len(rows))).nonzero().squeeze(1)
            cosines[inside, at[inside]] = -torch.inf
        chunk = _largest(cosines, min(k, len(rows)))
        similarity = torch.cat([similarity, cosines.gather(1, chunk)], dim=1)
        nearby = torch.cat([nearby, chunk + first], dim=1)
        similarity, nearby = _sorted(similarity, nearby, k)
    return similarity, nearby


def vote(similarity: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """Rank classes by the weight of their neighbours, the heaviest first: (Q, k) cosines and labels -> (Q, classes)."""
    weights = (similarity.double() / temperature).exp()
    score = weights.new_zeros(len(labels), classes).scatter_add_(1, labels, weights)
    return score.argsort(dim=1, descending=True, stable=True)


def _largest(values: Tensor, k: int) -> Tensor:
    """Return the positions of the k largest values of each row, (Q, N) -> (Q, k), ascending; of equal values the first.

    `topk` takes any of the equal ones, and another on another device.
    """
    last = values.topk(k, dim=1).values[:, -1:]  # the smallest that is in
    above, equal = values > last, values == last
    taken = above | (equal & (equal.cumsum(1) <= k - above.sum(1, keepdim=True)))
    return taken.nonzero()[:, 1].view(len(values), k)


def _sorted(similarity: Tensor, nearby: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best of candidates that stand in the order of the bank where they are equal, the best first."""
    order = similarity.argsort(dim=1, descending=True, stable=True)[:, :k]
    return similarity.gather(1, order), nearby.gather(1, order)


def _over_ranks(similarity: Tensor, nearby: Tensor, first: int, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best of what the ranks found in their shares of the bank; this rank's share begins at `first`."""
    found = similarity.shape[1]
    padded = similarity.new_full((2, len(similarity), k), -torch.inf, dtype=torch.float64, device="cpu")
    padded[0, :, :found] = similarity
    padded[1, :, :found] = nearby + first  # whole numbers up to 2**53 stay whole
    padded[1, :, found:] = 0
    ranks = distributed.all_gather(padded[None])  # (world, 2, Q, k)
    similarity, rows = (ranks[:, i].transpose(0, 1).flatten(1) for i in (0, 1))  # (Q, world x k), by rank
    return _sorted(similarity, rows.long(), k)
