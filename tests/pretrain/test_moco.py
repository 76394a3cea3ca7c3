"""The production step against Algorithm 1, and one process against several."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from pretrain import batchnorm, checkpoint, config, distributed, moco, train
from tests.pretrain import algorithm1

BATCH, SIDE, DIM, STEPS, LR = 8, 9, 5, 20, 0.05


@dataclasses.dataclass(frozen=True)
class Case:
    """One way to run MoCo; `groups` BN groups of the reference = processes x bn_groups."""

    groups: int = 1
    shuffle: bool = False
    head: str = "fc"
    queue_size: int = 11  # no multiple of the batch: every second step wraps around
    momentum: float = 0.9
    temperature: float = 0.07
    evaluation: bool = False  # BN in eval mode
    sync: bool = False


def images(step: int, view: int) -> Tensor:
    return torch.randn(
        BATCH, 3, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(100 * step + view)
    )


def permutation(case: Case, step: int) -> Tensor | None:
    return torch.randperm(BATCH, generator=torch.Generator().manual_seed(step)) if case.shuffle else None


def small_encoder(head: str) -> nn.Module:
    """Two convolutions with BN: the arithmetic of a step is the same as in a ResNet, in a hundredth of the time."""
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2), nn.BatchNorm2d(8)]
    heads = {"fc": [nn.Linear(8, DIM)], "mlp": [nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, DIM)]}
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *heads[head]).double()


def start(case: Case, bn_groups: int) -> moco.MoCo:
    encoder = small_encoder(case.head)
    model = moco.MoCo(encoder, DIM, case.queue_size, case.momentum, case.temperature).double()
    if bn_groups > 1:
        batchnorm.split_batchnorm(model, bn_groups)
    if case.sync:
        batchnorm.convert_sync_batchnorm(model)
    return model.eval() if case.evaluation else model.train()


def produce(case: Case, bn_groups: int = 1) -> dict[str, Any]:
    """Losses, queue (oldest first), pointer and state after STEPS of the production step on this world."""
    rank, world = distributed.rank(), distributed.world_size()
    model = start(case, bn_groups)
    optimizer = torch.optim.SGD(model.parameters(), LR, 0.9, weight_decay=1e-4)
    ranks = distributed.data_parallel(model)
    losses = []
    for step in range(STEPS):
        query, key = (images(step, view).chunk(world)[rank] for view in (0, 1))
        loss, _ = train.train_step(ranks, model, optimizer, query, key, permutation(case, step))
        losses.append(distributed.mean(loss).item())
    model.update_key_encoder()  # Algorithm 1 does it at the end of a step, the published code before the next
    queues = distributed.all_gather(model.queue.keys[None])
    assert (queues == model.queue.keys).all(), "the queue is not the same on all ranks"
    return {
        "losses": losses,
        "queue": model.queue.keys.roll(-model.queue.pointer, 0),
        "pointer": model.queue.pointer,
        "q": model.encoder_q.state_dict(),
        "k": model.encoder_k.state_dict(),
    }


def expect(case: Case) -> dict[str, Any]:
    """The same from the reference, which shares nothing with the production code but the first weights and queue."""
    begin = start(case, 1)
    f_q, f_k = small_encoder(case.head), small_encoder(case.head)
    f_q.train(not case.evaluation), f_k.train(not case.evaluation)
    queue = list(begin.queue.keys.clone())
    batches = [(images(step, 0), images(step, 1), permutation(case, step)) for step in range(STEPS)]
    losses = algorithm1.train(f_q, f_k, queue, batches, case.momentum, case.temperature, LR, case.groups)
    return {"losses": losses, "queue": torch.stack(queue), "q": f_q.state_dict(), "k": f_k.state_dict()}


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(torch.tensor(found["losses"]), torch.tensor(expected["losses"]), **close)
    torch.testing.assert_close(found["queue"], expected["queue"], **close)
    for part in ("q", "k"):
        assert found[part].keys() == expected[part].keys()
        for name, tensor in expected[part].items():
            torch.testing.assert_close(found[part][name], tensor, **close, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize(
    "case",
    [
        Case(),
        Case(head="mlp", temperature=0.2, momentum=0.999, queue_size=3),  # the batch overflows the whole queue
        Case(groups=2, shuffle=True),
        Case(groups=4, queue_size=64),
    ],
    ids=str,
)
def test_one_process_is_algorithm_1(case: Case) -> None:
    assert_same(produce(case, bn_groups=case.groups), expect(case))


def test_the_cases_would_notice_shuffling_groups_and_momentum() -> None:
    """The reference itself must tell the cases apart, or the comparison above proves nothing."""
    base = Case(groups=2, shuffle=True)
    variants = [{"shuffle": False}, {"groups": 1}, {"groups": 4}, {"momentum": 0.8}, {"temperature": 0.08}]
    losses = [expect(dataclasses.replace(base, **change))["losses"] for change in [{}, *variants]]
    for other in losses[1:]:
        assert max(abs(a - b) for a, b in zip(losses[0], other, strict=True)) > 1e-4


TWO_RANKS = {
    "published: BN of each rank, shuffled": (Case(groups=2, shuffle=True), 1),
    "not shuffled": (Case(groups=2, head="mlp"), 1),
    "2 ranks of 2 groups, shuffled": (Case(groups=4, shuffle=True), 2),
    "BN in eval mode": (Case(groups=1, evaluation=True, shuffle=True), 1),
    "SyncBN over all": (Case(groups=1, sync=True), 1),
}


def produce_all() -> list[dict[str, Any]]:
    return [produce(case, bn_groups) for case, bn_groups in TWO_RANKS.values()]


def test_two_processes_are_algorithm_1_on_the_global_batch() -> None:
    for (name, (case, _)), found in zip(TWO_RANKS.items(), distributed.launch(produce_all, 2), strict=True):
        try:
            assert_same(found, expect(case))
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


def test_a_real_resnet_with_the_mlp_head_is_algorithm_1() -> None:
    torch.manual_seed(0)
    settings = config.Model(arch="resnet18", dim=DIM, queue_size=11, momentum=0.5, temperature=0.2, bn_groups=2)
    model = train.build(settings).double().train()
    f_q = torchvision.models.resnet18(num_classes=DIM)
    f_q.fc = nn.Sequential(nn.Linear(512, 512), nn.ReLU(), f_q.fc)
    f_q = f_q.double()
    f_q.load_state_dict(model.encoder_q.state_dict())
    queue = list(model.queue.keys.clone())
    batch = [torch.randn(8, 3, 64, 64, dtype=torch.float64) for _ in range(2)]
    optimizer = torch.optim.SGD(model.parameters(), LR, 0.9, weight_decay=1e-4)
    loss, _ = train.train_step(model, model, optimizer, *batch, torch.arange(8).flip(0))
    f_k = copy.deepcopy(f_q)
    expected = algorithm1.train(f_q, f_k, queue, [(*batch, torch.arange(8).flip(0))], 0.5, 0.2, LR, groups=2)
    model.update_key_encoder()
    assert loss.item() == pytest.approx(expected[0], abs=1e-10)
    torch.testing.assert_close(model.queue.keys.roll(-8, 0), torch.stack(queue), rtol=1e-10, atol=1e-10)
    for encoder, wanted in ((model.encoder_q, f_q), (model.encoder_k, f_k)):
        for name, tensor in wanted.state_dict().items():
            torch.testing.assert_close(encoder.state_dict()[name], tensor, rtol=1e-8, atol=1e-10)


def test_momentum_moves_parameters_and_leaves_buffers() -> None:
    model = start(Case(momentum=0.75), 1)
    with torch.no_grad():
        for tensor in [*model.encoder_q.parameters(), *model.encoder_q.buffers()]:
            tensor.copy_(torch.full_like(tensor, 4))
        for tensor in [*model.encoder_k.parameters(), *model.encoder_k.buffers()]:
            tensor.copy_(torch.full_like(tensor, 8))
    model.update_key_encoder()
    assert {p.unique().item() for p in model.encoder_k.parameters()} == {7.0}
    assert {b.unique().item() for b in model.encoder_k.buffers()} == {8}
    assert not any(p.requires_grad for p in model.encoder_k.parameters())


@pytest.mark.parametrize(("momentum", "same_as"), [(1.0, "itself"), (0.0, "query")])
def test_the_ends_of_momentum(momentum: float, same_as: str) -> None:
    model = start(Case(momentum=momentum), 1)
    with torch.no_grad():
        for parameter in model.encoder_q.parameters():
            parameter.add_(1)
    before = copy.deepcopy(model)
    model.update_key_encoder()
    expected = before.encoder_q if same_as == "query" else before.encoder_k
    for found, wanted in zip(model.encoder_k.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_info_nce_is_cross_entropy_of_the_positive_first() -> None:
    torch.manual_seed(0)
    query, positive = (nn.functional.normalize(torch.randn(6, DIM, dtype=torch.float64), dim=1) for _ in range(2))
    negatives = nn.functional.normalize(torch.randn(9, DIM, dtype=torch.float64), dim=1)
    logits = torch.cat([(query * positive).sum(1, keepdim=True), query @ negatives.T], dim=1) / 0.07
    labels = torch.zeros(6, dtype=torch.long)
    loss, accuracy = moco.info_nce(query, positive, negatives, 0.07)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, labels))
    assert accuracy.item() == pytest.approx((logits.argmax(1) == 0).double().mean().item())


def test_info_nce_of_equal_scores_is_the_log_of_their_number() -> None:
    same = torch.zeros(2, DIM)
    loss, accuracy = moco.info_nce(same, same, torch.zeros(99, DIM), 0.5)
    assert loss.item() == pytest.approx(torch.tensor(100.0).log().item())
    assert accuracy.item() == 0  # a tie is no success


@pytest.mark.parametrize(("arch", "head"), [("resnet18", "fc"), ("resnet34", "mlp"), ("resnet101", "mlp")])
def test_encoders_have_the_published_names(arch: str, head: str) -> None:
    with torch.device("meta"):
        model = moco.MoCo(moco.build_encoder(arch, 16, head), 16, 32)
        wanted = set(torchvision.models.get_model(arch).state_dict()) - {"fc.weight", "fc.bias"}
    heads = {"fc": {"fc.weight", "fc.bias"}, "mlp": {f"fc.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}}
    names = {f"module.encoder_{side}.{name}" for side in "qk" for name in wanted | heads[head]}
    assert set(moco.published_state(model)) == names | {"module.queue", "module.queue_ptr"}


def test_the_published_layout_goes_round() -> None:
    source, target = start(Case(), 1), start(Case(), 1)
    source.queue.enqueue(torch.randn(4, DIM))
    with torch.no_grad():
        for tensor in [*source.parameters(), *source.buffers()]:
            tensor.copy_(torch.rand_like(tensor.double()).to(tensor.dtype))
    state = moco.published_state(source)
    assert state["module.queue"].shape == (DIM, 11)
    assert state["module.queue_ptr"].tolist() == [4]
    moco.load_published_state(target, state)
    assert target.queue.pointer == 4
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name]), name


def test_a_file_in_the_released_layout_gives_its_query_encoder(tmp_path: Any) -> None:
    """As the published code writes it: DDP's names, both encoders, queue (dim, K), SGD's state."""
    encoder_q, encoder_k = torchvision.models.resnet18(num_classes=128), torchvision.models.resnet18(num_classes=128)
    state = {f"module.encoder_q.{name}": tensor for name, tensor in encoder_q.state_dict().items()}
    state |= {f"module.encoder_k.{name}": tensor for name, tensor in encoder_k.state_dict().items()}
    state |= {"module.queue": torch.randn(128, 256), "module.queue_ptr": torch.tensor([32])}
    optimizer = torch.optim.SGD(encoder_q.parameters(), 0.03, 0.9, weight_decay=1e-4)
    path = tmp_path / "moco_v1_200ep_pretrain.pth.tar"
    torch.save({"epoch": 200, "arch": "resnet18", "state_dict": state, "optimizer": optimizer.state_dict()}, path)
    found = checkpoint.load_query_encoder(path)
    assert (found.arch, found.epoch) == ("resnet18", 200)
    backbone = {name: tensor for name, tensor in encoder_q.state_dict().items() if not name.startswith("fc.")}
    assert found.state_dict.keys() == backbone.keys()
    assert all(torch.equal(found.state_dict[name], tensor) for name, tensor in backbone.items())
    assert set(found.dropped) == {name for name in state if "encoder_q" not in name or ".fc." in name}
