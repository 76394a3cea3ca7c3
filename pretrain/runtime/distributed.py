"""The ranks of a run: join them, exchange tensors and objects. One process, and gloo on a CPU, are ordinary cases.

Knows no config and no model. Collectives on CPU tensors go through gloo, on CUDA tensors through NCCL.
"""

import contextlib
import datetime
import gc
import importlib
import inspect
import os
import pickle
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pretrain.runtime import host
from pretrain.runtime.errors import Stopped, UserError
from pretrain.runtime.ranks import environment, first_errors, gloo_faults, meeting
from pretrain.runtime.ranks.environment import LaunchFault, World
from pretrain.runtime.ranks.long_wait import leave_together as leave_together

T = TypeVar("T")

TIMEOUT = datetime.timedelta(minutes=30)  # a rank that waits longer for the others gives up
# torch 2.14 renamed it and warns of the old name.
_gather_rows = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


def select_device(name: str, visible: int | None = None) -> torch.device:
    """Return the device of this process: `auto` (CUDA where there is one, else the CPU), `cpu`, `cuda` or `cuda:1`.

    `auto` and `cuda` take the GPU of the local rank, or the only one where the launcher shows each process its own
    (srun --gpus-per-task=1).

    Args:
        name: as in a configuration.
        visible: number of GPUs that this process sees; None: as PyTorch says.

    Raises UserError where there is no such device, or where several processes would share it.
    """
    if name == "cpu":
        return torch.device("cpu")
    visible = torch.cuda.device_count() if visible is None else visible
    if name == "auto":
        name = "cuda" if visible else "cpu"
        if name == "cpu":
            return torch.device("cpu")
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if not match:
        reason = f". {host.NO_MPS}" if name.startswith("mps") else ""
        raise UserError(f"device: '{name}' is none of auto, cpu, cuda, cuda:N{reason}")
    together = local_world_size()
    if match[1] and together > 1:
        raise UserError(
            f"device: '{name}' would put all {together} processes of this machine on one GPU; 'cuda' gives each its own"
        )
    own = int(match[1]) if match[1] else local_rank()
    index = 0 if visible == 1 and not match[1] else own  # that two do not share it is compared when all meet
    if index >= visible:
        raise UserError(
            f"device: '{name}' asks for GPU {index} on local rank {local_rank()}, but PyTorch sees {visible} GPUs here"
            + (f"; start at most {visible} processes on this machine" if visible and together > visible else "")
        )
    return torch.device("cuda", index)


def init(
    device: torch.device | str,
    settings: Mapping[str, object] | None = None,
    asked: Callable[[], str | None] = lambda: None,
) -> None:
    """Join the other processes, as the environment of torchrun, of SLURM's srun or of `spawn.run_on_ranks` names them.

    A process that was started by itself makes no process group. Calling it again does nothing.

    Args:
        device: of this process.
        settings: that all processes must have in common.
        asked: returns the name of a signal that has asked this process to stop, if any.

    Raises:
        UserError: the others do not come, or run something else.
        Stopped: this process was asked to stop while it waited for them.
    """
    if dist.is_initialized():
        return
    device = torch.device(device)
    world = launched_world()
    if world is None:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        return
    facts = {
        "device": device.type,
        "torch": torch.__version__,
        "code": meeting.digest_code(),
        "gpu": str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else None,
        "settings": {name: str(value) for name, value in (settings or {}).items()},
    }
    try:
        store = meeting.meet(world, facts, asked)
        first_errors.watch_others(world)
    except LaunchFault as fault:
        raise UserError(str(fault)) from fault
    except meeting.AskedToStop as fault:
        raise Stopped("before the run began, nothing to save") from fault
    join(device, store=dist.PrefixStore("group", store), rank=world.rank, world_size=world.size)


def launched_world() -> World | None:
    """Return the world that torchrun or srun has started this process in; None where it is the only one.

    Raises UserError where their variables contradict each other.
    """
    try:
        return environment.read_world(os.environ)
    except LaunchFault as fault:
        raise UserError(str(fault)) from fault


def launched_processes() -> int:
    """Return the processes of one run that torchrun or srun has started; 0 where this process is the only one."""
    started = environment.count_launched(os.environ)
    return started if started > 1 else 0


def join(device: torch.device, **where: Any) -> None:
    """Join a process group on `device`; `where` goes to torch's `init_process_group`.

    Raises UserError where gloo finds no way between the machines.
    """
    importlib.import_module("torch._dynamo")  # which DDP would import later, and which keeps a group that is there then
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        with gloo_faults.said_if_slow():
            dist.init_process_group(backend, timeout=TIMEOUT, **where)
    except RuntimeError as error:
        fault = gloo_faults.explain(error)
        if fault is None:
            raise
        raise UserError(fault) from error


def shutdown() -> None:
    """Leave the other processes, and end the threads that talked to them; nothing where there are none.

    Not after an error: the others may not come, and NCCL waits for them.

    A model in a reference cycle would hold the group, and gloo's threads with it. One that frees a tensor while the
    interpreter ends aborts the process, whose work was done (pytorch/pytorch#179291).
    """
    if dist.is_initialized():
        if first_errors.is_watching():
            dist.barrier()  # until all are done, another's error ends this process, too
            first_errors.leave()
        dist.destroy_process_group()
        gc.collect()


def rank() -> int:
    """Return the position of this process among all, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes on all machines."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_rank() -> int:
    """Return the position of this process among those on its machine, from 0."""
    world = launched_world()
    return world.local_rank if world else int(os.environ.get("LOCAL_RANK") or 0)


def local_world_size() -> int:
    """Return the number of processes on this machine."""
    world = launched_world()
    return world.local_size if world else int(os.environ.get("LOCAL_WORLD_SIZE") or 1)


def is_main() -> bool:
    """Return whether this is the process that writes files and talks to the user."""
    return rank() == 0


def barrier() -> None:
    """Wait until every process is here."""
    if dist.is_initialized():
        dist.barrier()


def all_gather_object(value: T) -> list[T]:
    """Gather a picklable object from every rank: the list is in rank order."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def gather_object(value: T) -> list[T]:
    """Gather a picklable object from every rank on rank 0, in rank order; the other ranks get an empty list."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * world_size() if is_main() else []
    dist.gather_object(value, values or None, dst=0)
    return values


def all_gather(tensor: torch.Tensor) -> torch.Tensor:
    """Gather the rows of all ranks, in rank order: (N, ...) -> (world size x N, ...). No gradient flows through."""
    if not dist.is_initialized():
        return tensor
    gathered = tensor.new_empty(world_size() * tensor.shape[0], *tensor.shape[1:])
    _gather_rows(gathered, tensor.contiguous())
    return gathered


def mean(tensor: torch.Tensor) -> torch.Tensor:
    """Return the mean of a tensor over the ranks."""
    if not dist.is_initialized():
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total / world_size()


def broadcast(tensors: list[torch.Tensor]) -> None:
    """Overwrite the tensors of every rank with those of rank 0."""
    if dist.is_initialized():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def share_batchnorm_statistics(model: nn.Module) -> None:
    """Give every rank the BN statistics of rank 0, which are those that a checkpoint keeps.

    BN that is not synchronised sees other images on each rank; all ranks evaluate and save one and the same model.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    broadcast([buffer for norm in norms for buffer in norm.buffers()])


def data_parallel(module: nn.Module) -> nn.Module:
    """Wrap a module so that backward averages its gradients over the ranks; buffers stay each rank's own.

    A gradient is a view of the bucket that the ranks exchange: none is copied into it and back, and the bytes of all
    gradients are taken once and not twice. It must be set to None and not to zero between steps, torch's default.
    """
    if not dist.is_initialized():
        return module
    # torch 2.15 renamed the argument and warns of the old name.
    renamed = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    options: dict[str, Any] = {"forward_sync_buffers" if renamed else "broadcast_buffers": False}
    options["gradient_as_bucket_view"] = True
    wrapped = DistributedDataParallel(module, **options)
    _fix_bucket_layout(wrapped)
    return wrapped


def _fix_bucket_layout(wrapped: DistributedDataParallel) -> None:
    """Let DDP lay out the gradients for good, in an order that the parameters alone decide.

    It does so after its first backward, in the order in which the gradients came; until then it takes another. Among
    more than two ranks the order of an element's summands depends on its place in the layout. A resumed run, whose
    first step has the first layout, would differ in the last bits from an undisturbed one.
    """
    module = wrapped.module
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    module.forward = lambda: torch.stack([parameter.sum().double() for parameter in parameters]).sum()
    try:
        wrapped().backward()
    finally:
        del module.forward  # the class's own is there again
    for parameter in parameters:
        parameter.grad = None


def agree(error: Exception | None, *flags: bool) -> list[bool]:
    """Agree on flags between all ranks, which all must call: each flag is set where it is set on any of them.

    Raises, on every rank, the error that any rank comes with, the lowest rank's first.
    """
    if not dist.is_initialized():
        if error is not None:
            raise error
        return list(flags)
    votes = torch.tensor([error is not None, *flags], dtype=torch.int32)
    dist.all_reduce(votes)  # cheap: the errors themselves travel only when there is one
    failed, *counts = votes.tolist()
    if failed:
        met = [
            (index, one) for index, one in enumerate(all_gather_object(error and portable(error))) if one is not None
        ]
        first, copy = met[0]
        raise _agreed(error if error is not None and rank() == first else copy, elsewhere=error is None)
    return [count > 0 for count in counts]


def subgroup(size: int) -> dist.ProcessGroup | None:
    """Make the group of `size` consecutive ranks that this one belongs to; None where there is one process."""
    if not dist.is_initialized():
        return None
    # Every rank must take part in making every group; each gets a real one for its own.
    groups: list[Any] = [dist.new_group(list(range(first, first + size))) for first in range(0, world_size(), size)]
    return groups[rank() // size]


def on_main(function: Callable[[], T]) -> T:
    """Call a function on rank 0 only; every rank gets its result, or raises what it raised."""
    result: list[Any] = [None, None]
    if is_main():
        try:
            result[0] = function()
        except Exception as error:
            if dist.is_initialized():
                dist.broadcast_object_list([None, portable(error)], src=0)
                _agreed(error, elsewhere=False)
            raise
    if dist.is_initialized():
        dist.broadcast_object_list(result, src=0)
    if result[1] is not None:
        raise _agreed(result[1], elsewhere=not isinstance(result[1], UserError))  # a mistake is one of all ranks
    return result[0]


def _agreed(error: Exception, elsewhere: bool) -> Exception:
    """Mark an error as one that all ranks raise, and as one that another rank has met; see ranks/first_errors.py."""
    with contextlib.suppress(AttributeError):
        error.agreed, error.elsewhere = True, elsewhere  # type: ignore[attr-defined]
    return error


def portable(error: Exception) -> Exception:
    """Return the error, or its text where it cannot travel between processes: to send it would fail."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
