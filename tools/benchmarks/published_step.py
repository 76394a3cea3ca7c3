"""The training step of MoCo as it was published in 2020, plainly: what tools/benchmark.py measures ours against.

Algorithm 1 of arXiv 1911.05722 as the authors' PyTorch release does it, with all that this costs: a momentum update
tensor by tensor, a queue that is stored (dim, K) and copied each step, logits put together into one (N, 1 + K) matrix,
the images of all ranks gathered on all ranks, and the buffers, queue included, broadcast before each forward pass.
"""

import copy

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from pretrain.engine.step import PRECISIONS


class PublishedMoCo(nn.Module):
    """The encoders and the queue. A process group must exist, if only of one process.

    Args:
        encoder: the query encoder, (N, 3, H, W) -> (N, dim); the key encoder starts as its copy.
        queue: (dim, K), columns of length 1; K a multiple of the global batch.
        momentum: m of the key encoder.
        temperature: divides the logits.
    """

    queue: Tensor
    queue_ptr: Tensor

    def __init__(self, encoder: nn.Module, queue: Tensor, momentum: float, temperature: float) -> None:
        super().__init__()
        self.momentum, self.temperature = momentum, temperature
        self.encoder_q = encoder
        self.encoder_k = copy.deepcopy(encoder).requires_grad_(False)
        self.register_buffer("queue", queue)
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    def forward(self, query_images: Tensor, key_images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, 1 + K), the positive first, and labels (N,), all zero, of two views (N, 3, H, W)."""
        with record_function("query forward"):
            query = nn.functional.normalize(self.encoder_q(query_images), dim=1)  # (N, dim)
        with torch.no_grad():
            with record_function("momentum update"):
                self._follow()
            with record_function("shuffle"):
                key_images, back = shuffle(key_images)
            with record_function("key forward"):
                keys = nn.functional.normalize(self.encoder_k(key_images), dim=1)  # (N, dim)
            with record_function("shuffle"):
                keys = unshuffle(keys, back)
        with record_function("logits and loss"):
            positive = torch.einsum("nc,nc->n", [query, keys]).unsqueeze(1)  # (N, 1)
            negative = torch.einsum("nc,ck->nk", [query, self.queue.clone().detach()])  # (N, K)
            logits = torch.cat([positive, negative], dim=1) / self.temperature
            labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        with record_function("enqueue"):
            self._enqueue(keys)
        return logits, labels

    def _follow(self) -> None:
        for leader, follower in zip(self.encoder_q.parameters(), self.encoder_k.parameters(), strict=True):
            follower.data = follower.data * self.momentum + leader.data * (1 - self.momentum)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor) -> None:
        keys = gather(keys)  # (world size x N, dim)
        start = int(self.queue_ptr)
        self.queue[:, start : start + len(keys)] = keys.T
        self.queue_ptr[0] = (start + len(keys)) % self.queue.shape[1]


@torch.no_grad()
def gather(tensor: Tensor) -> Tensor:
    """Gather the (N, ...) of each rank: (world size x N, ...) on all."""
    rows = [torch.ones_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(rows, tensor)
    return torch.cat(rows)


@torch.no_grad()
def shuffle(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return this rank's rows (N, ...) of the shuffled global batch, and the order (world size x N,) that undoes it."""
    everything = gather(images)
    order = torch.randperm(len(everything), device=images.device)
    dist.broadcast(order, src=0)
    return everything[_own_rows(order)], order.argsort()


@torch.no_grad()
def unshuffle(keys: Tensor, back: Tensor) -> Tensor:
    """Return this rank's own keys (N, dim), given those of its shuffled images (N, dim)."""
    return gather(keys)[_own_rows(back)]


def _own_rows(order: Tensor) -> Tensor:
    return order.view(dist.get_world_size(), -1)[dist.get_rank()]


class PublishedStep:
    """The loop of the published script: forward, accuracy, backward and update.

    Args:
        model: on its device.
        optimizer: over all of the model's parameters.
        precision: `fp32` or `tf32`, or the same code with autocast around the forward pass: `bf16`, `fp16` (with loss
            scaling).
    """

    def __init__(self, model: PublishedMoCo, optimizer: torch.optim.Optimizer, precision: str = "fp32") -> None:
        self.optimizer = optimizer
        self.device_type = model.queue.device.type
        self.dtype = PRECISIONS[precision]
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=precision == "fp16")
        self.ranks = DistributedDataParallel(model)
        self.criterion = nn.CrossEntropyLoss()

    def __call__(self, query_images: Tensor, key_images: Tensor) -> tuple[float, float]:
        """Return the loss, and the share of queries whose positive ranks first, of two views (N, 3, H, W)."""
        with torch.autocast(self.device_type, self.dtype, enabled=self.dtype is not None):
            with record_function("buffers broadcast"):  # what is left of it when the labels within are taken off
                logits, labels = self.ranks(query_images, key_images)
            with record_function("logits and loss"):
                loss = self.criterion(logits, labels)
        with record_function("logits and loss"):
            first = logits.topk(5, dim=1).indices[:, 0] == labels  # (N,) of the top 5, of which the script shows two
            seen = loss.item(), first.float().mean().item()
        self.optimizer.zero_grad()
        with record_function("backward"):
            self.scaler.scale(loss).backward()
        with record_function("optimiser"):
            self.scaler.step(self.optimizer)
            self.scaler.update()
        return seen
