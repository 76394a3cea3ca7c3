"""The same small training by the production step and by the plain reference, for every way to do it."""

import copy
import functools
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.engine.optim import SGD
from pretrain.engine.step import TrainingStep
from pretrain.models import shuffle_bn
from pretrain.models.end_to_end import EndToEnd
from pretrain.models.memory_bank import MemoryBank
from pretrain.models.moco import MoCo
from pretrain.runtime import distributed, sync_batchnorm
from pretrain.runtime.errors import PretrainError
from tests.support.pretrain import algorithm1
from tests.support.pretrain.algorithm1 import Part, Sgd

BATCH, SIDE, DIM, LR = 16, 9, 5, 0.05
IMAGES = 23  # in the data set: some come twice in a batch


@dataclass(frozen=True)
class Case:
    """One way to train. The reference gets what of it changes the numbers, and the number of BN groups."""

    method: str = "moco"
    head: str = "fc"
    temperature: float = 0.07
    queue_size: int = 11  # smaller than the batch and no divisor of it; K of the memory bank
    momentum: float = 0.9
    shuffle: bool = True
    bn_groups: int = 1  # in each process
    sync: bool = False  # SyncBN over all processes
    evaluation: bool = False  # BN in eval mode
    accumulate: int = 1
    clip: float = 0.0
    channels_last: bool = False
    dtype: torch.dtype = torch.float64
    precision: str = "fp32"
    steps: int = 20
    device: str = "cpu"  # of the production step


V1 = Case()
V2 = Case(head="mlp", temperature=0.2, momentum=0.999)

# One step against float64: largest differences of (loss, an element of a key, the update's length), the last relative;
# in brackets what was measured over five seeds. bf16 has 8 significant bits and fp16 has 11: features are 2^3 times
# nearer. A temperature of 0.07 makes a feature's error 14 times as large in the logits, one of 0.2 five times.
HALF = {
    "bf16, v1": (replace(V1, precision="bf16"), (0.05, 0.03, 0.1)),  # (0.018, 0.010, 0.022)
    "bf16, v2": (replace(V2, precision="bf16"), (0.003, 0.015, 0.4)),  # (0.0009, 0.005, 0.13)
    "fp16, v2": (replace(V2, precision="fp16"), (0.0005, 0.003, 0.006)),  # (0.00011, 0.0008, 0.002)
}
HALF = {name: (replace(case, dtype=torch.float32, steps=1), bounds) for name, (case, bounds) in HALF.items()}


def images(step: int, view: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The global batch: (BATCH, 3, SIDE, SIDE)."""
    generator = torch.Generator().manual_seed(100 * step + view)
    return torch.randn(BATCH, 3, SIDE, SIDE, generator=generator).to(dtype)


def indices(step: int) -> Tensor:
    """Return which images of the data set the global batch is: (BATCH,) int64."""
    return torch.randint(IMAGES, (BATCH,), generator=torch.Generator().manual_seed(step))


def generators(case: Case, step: int) -> list[torch.Generator]:
    """One for each part of the step, the same on every rank."""
    return [torch.Generator().manual_seed(1000 + 10 * step + part) for part in range(case.accumulate)]


def small_encoder(head: str = "fc") -> nn.Module:
    """Two convolutions with BN: the arithmetic of a step is the same as in a ResNet, in a hundredth of the time."""
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.BatchNorm2d(8)]
    heads = {"fc": [nn.Linear(8, DIM)], "mlp": [nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, DIM)]}
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *heads[head])


def initial_model(case: Case) -> Any:
    """The method with its first weights."""
    encoder = small_encoder(case.head)
    model: Any
    if case.method == "moco":
        model = MoCo(encoder, DIM, case.queue_size, case.momentum, case.temperature, case.shuffle)
    elif case.method == "end_to_end":
        model = EndToEnd(encoder, case.temperature, case.shuffle)
    else:
        model = MemoryBank(encoder, DIM, IMAGES, case.queue_size, case.momentum, case.temperature)
    model = model.to(case.dtype).train(not case.evaluation)
    if case.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if case.bn_groups > 1:
        shuffle_bn.split_batchnorm(model, case.bn_groups)
    if case.sync:
        sync_batchnorm.convert_sync_batchnorm(model)
    return model.to(case.device)


def state(model: Any) -> dict[str, Tensor]:
    """Every number of a method, the queue with its oldest key first."""
    found = dict(model.state_dict())
    if isinstance(model, MoCo):
        found["queue.keys"] = found["queue.keys"].roll(-model.queue.pointer, 0)
    return found


def rank_slice(batch: Tensor, case: Case = V1) -> Tensor:
    """This rank's slice of a global batch, in the memory layout of the case."""
    rows = batch.chunk(distributed.world_size())[distributed.rank()]
    return rows.contiguous(memory_format=torch.channels_last) if case.channels_last and rows.ndim == 4 else rows


def run_production(case: Case) -> dict[str, Tensor]:
    """Losses and state after `case.steps` of the production step on this world."""
    model = initial_model(case)
    optimizer = SGD(model.parameters(), LR, 0.9, weight_decay=1e-4)
    step = TrainingStep(model, optimizer, case.precision, case.clip)
    losses = []
    for at in range(case.steps):
        views = (rank_slice(images(at, view, case.dtype), case).to(case.device) for view in (0, 1))
        losses.append(distributed.mean(step(*views, rank_slice(indices(at)), generators(case, at)).loss))
    model.before_step()  # Algorithm 1 moves the key encoder at the end of a step, the published code before the next
    for name, tensor in model.state_dict().items():
        shared = "running_" not in name  # BN statistics are each rank's own
        everywhere = distributed.all_gather(tensor[None])
        if shared and not torch.equal(everywhere, tensor.expand_as(everywhere)):
            raise RuntimeError(f"{name} is not the same on all ranks")
    found = {"losses": torch.stack(losses), **state(model)}
    return {name: tensor.cpu() for name, tensor in found.items()}


def half_precision_errors(case: Case, found: dict[str, Tensor], world: int = 1) -> tuple[float, float, float]:
    """Return how far a case of HALF is from the reference in float64, as its bounds are given."""
    begin, expected = initial_model(replace(case, device="cpu")).double(), run_reference(case, world)
    weights = [parameter for parameter, _ in begin.named_parameters() if parameter.startswith("encoder_q.")]

    def update(state: dict[str, Tensor]) -> Tensor:
        return torch.cat([(state[weight].double() - begin.state_dict()[weight]).flatten() for weight in weights])

    loss = (found["losses"] - expected["losses"]).abs().max().item()
    key = (found["queue.keys"].double() - expected["queue.keys"]).abs().max().item()
    return loss, key, ((update(found) - update(expected)).norm() / update(expected).norm()).item()


def run_production_cases(cases: list[Case]) -> list[dict[str, Tensor]]:
    """For `spawn.run_on_ranks`: many cases for the price of one start of processes."""
    return [run_production(case) for case in cases]


def inf_in_an_element_of_a_gradient(model: Any, *_: object) -> None:
    """Make a number of each gradient of this rank infinite from now on."""
    one = torch.zeros_like(model.encoder_q[1].bias)
    one[2] = torch.inf
    model.encoder_q[1].bias.register_hook(lambda gradient: gradient + one)


def overflowing(
    scale: float, steps: int, always: bool, device: str = "cpu"
) -> tuple[list[tuple[float, bool]], list[str]]:
    """Scale after each step in fp16, and whether it changed the weights; what every rank says in the end.

    A scale of 2^40 makes gradients overflow by themselves; `always`: one of rank 2's is infinite at any scale.
    """
    model = initial_model(replace(V1, dtype=torch.float32, device=device))
    step = TrainingStep(model, SGD(model.parameters(), LR, 0.9), "fp16")
    step.scaler = torch.amp.GradScaler(device, init_scale=scale)
    if always and distributed.rank() == distributed.world_size() // 2:
        inf_in_an_element_of_a_gradient(model)
    seen, said = [], ""
    for _ in range(steps):
        before = [p.clone() for p in model.encoder_q.parameters()]
        x = [rank_slice(images(0, view, torch.float32)).to(device) for view in (0, 1)]
        try:
            step(*x, rank_slice(indices(0)), generators(V1, 0))
        except PretrainError as error:
            said = str(error)
            break
        moved = any(not torch.equal(a, b) for a, b in zip(before, model.encoder_q.parameters(), strict=True))
        seen.append((step.scaler.get_scale(), moved))
    if len(set(map(str, distributed.all_gather_object(seen)))) > 1:
        raise RuntimeError(f"the ranks do not agree: {seen}")
    return seen, distributed.all_gather_object(said)


def run_reference(case: Case, world: int = 1) -> dict[str, Tensor]:
    """Return the same from the reference, in float64, which shares only the first weights with the production code."""
    plain = replace(case, bn_groups=1, sync=False, channels_last=False, precision="fp32", device="cpu")
    groups = 1 if case.sync else world * case.bn_groups
    return dict(_run_reference(plain, groups, world if case.accumulate > 1 else 1))


@functools.cache
def _run_reference(case: Case, groups: int, world: int) -> dict[str, Tensor]:
    model = initial_model(case).double()
    batches = [parts(case, step, world) for step in range(case.steps)]
    f_q = small_encoder(case.head).double().train(not case.evaluation)
    f_q.load_state_dict(model.encoder_q.state_dict())
    sgd = Sgd(f_q, LR, clip=case.clip)
    found = {}
    if case.method == "moco":
        f_k, queue = copy.deepcopy(f_q), list(model.queue.keys.clone())
        losses = algorithm1.moco(f_q, f_k, queue, batches, case.momentum, case.temperature, sgd, groups)
        found = {f"encoder_k.{name}": tensor for name, tensor in f_k.state_dict().items()}
        found["queue.keys"] = torch.stack(queue)
    elif case.method == "end_to_end":
        losses = algorithm1.end_to_end(f_q, batches, case.temperature, sgd, groups)
    else:
        bank = list(model.bank.clone())
        losses = algorithm1.memory_bank(f_q, bank, batches, case.momentum, case.temperature, sgd, groups)
        found["bank"] = torch.stack(bank)
    found |= {f"encoder_q.{name}": tensor for name, tensor in f_q.state_dict().items()}
    return {"losses": torch.tensor(losses, dtype=torch.float64), **found}


def parts(case: Case, step: int, world: int) -> list[Part]:
    """The parts of a global batch: the p-th of every rank's slice make the p-th part."""
    rows = torch.arange(BATCH).view(world, case.accumulate, -1)  # (rank, part, row of the batch)
    made = []
    for part, generator in enumerate(generators(case, step)):
        mine = rows[:, part].flatten()
        order = (
            torch.randperm(len(mine), generator=generator) if case.shuffle and case.method != "memory_bank" else None
        )
        drawn = torch.randint(IMAGES, (case.queue_size,), generator=generator) if case.method == "memory_bank" else mine
        x_q, x_k = (images(step, view, case.dtype).double()[mine] for view in (0, 1))
        made.append(Part(x_q, x_k, mine.tolist(), order, indices(step)[mine].tolist(), drawn.tolist()))
    return made


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-10) -> None:
    """Every number of the two within `tolerance`, absolute and relative."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name],
            tensor,
            rtol=tolerance,
            atol=tolerance,
            check_dtype=False,
            msg=lambda text, name=name: f"{name}: {text}",
        )
