"""The ResNet of a file is found by names and shapes, whatever its prefix; among several the user chooses."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.support.transfer.pretrained import hollow
from transfer.errors import TransferError
from transfer.weights import locate

HOLLOW = hollow()
BACKBONE = [name for name in HOLLOW if not name.startswith("fc.")]


def under(before: str, state: dict[str, Tensor] = HOLLOW) -> dict[str, Tensor]:
    return {before + name: tensor for name, tensor in state.items()}


def find(content: Any, **options: str) -> locate.Candidate:
    return locate.choose_candidate(locate.find_candidates(locate.flatten_tensors(content)), **options)


components = st.sampled_from(
    ["module", "_orig_mod", "_fsdp_wrapped_module", "backbone", "encoder", "student", "model", "net", "0", "online"]
)


@given(stack=st.lists(components, max_size=5), levels=st.integers(0, 5), inside=st.data())
def test_any_stack_of_prefixes_gives_the_same_network(stack: list[str], levels: int, inside: st.DataObject) -> None:
    wrapped = inside.draw(st.sets(st.sampled_from(["layer1", "layer3", "layer4.0.conv1", "conv1", "bn1"])))
    wrapper = inside.draw(st.sampled_from(locate.WRAPPERS))
    content: Any = {}
    for name, tensor in HOLLOW.items():
        for part in wrapped:  # torch.compile(model.layer1) puts its name after the part's
            if name.startswith(f"{part}."):
                name = name.replace(f"{part}.", f"{part}.{wrapper}.", 1)
                break
        content[".".join([*stack[levels:], name])] = tensor
    for key in reversed(stack[:levels]):
        content = {key: content, "epoch": 3, 7: torch.zeros(1)}
    found = find({"state_dict": content})
    assert found.prefix == "".join(f"{part}." for part in stack)
    assert found.architecture.name == "resnet18"
    assert list(found.state) == BACKBONE
    assert all(found.state[name] is HOLLOW[name] for name in BACKBONE)


@pytest.mark.parametrize(
    ("names", "kind", "role"),
    [
        ("module.encoder_q.", "moco", "query"),
        ("encoder_q.", "moco", "query"),
        ("_orig_mod.module.encoder_q._orig_mod.", "moco", "query"),
        ("module.base_encoder.", "moco_v3", "query"),
        ("module._orig_mod.", "torchvision", None),
        ("", "torchvision", None),
        ("student.backbone.", "other", None),
    ],
)
def test_the_prefix_tells_the_kind_of_file(names: str, kind: str, role: str | None) -> None:
    found = find(under(names))
    assert (found.prefix, found.kind, found.role) == (names, kind, role)


@pytest.mark.parametrize(
    ("query", "key"), [("encoder_q.", "encoder_k."), ("module.base_encoder.", "module.momentum_encoder.")]
)
def test_the_two_encoders_are_chosen_by_role_the_query_first(query: str, key: str) -> None:
    both = under(key) | under(query)
    assert find(both).prefix == query
    assert find(both, encoder="query").prefix == query
    assert find(both, encoder="key").prefix == key
    with pytest.raises(TransferError, match=r"(?s)holds no query encoder.*--encoder key"):
        find(under(key), encoder=None)  # never the key encoder unasked


def test_two_networks_that_fit_are_listed_and_the_user_chooses() -> None:
    other = {name: tensor + 1 for name, tensor in HOLLOW.items()}
    both = {"teacher": under("module.backbone.", other), "student": under("module.backbone.")}
    with pytest.raises(TransferError) as error:
        find(both)
    message = str(error.value)
    assert "2 networks fit" in message
    assert "--prefix 'teacher.module.backbone.'  resnet18" in message
    assert "--prefix 'student.module.backbone.'  resnet18" in message
    for name in ("student.module.backbone", "student.module.backbone."):
        assert find(both, prefix=name).state["conv1.weight"] is HOLLOW["conv1.weight"]
    with pytest.raises(TransferError, match="--prefix backbone: no ResNet has this prefix"):
        find(both, prefix="backbone")
    with pytest.raises(TransferError, match="holds no key encoder"):
        find(both, encoder="key")


def test_with_a_third_network_the_user_must_choose() -> None:
    three = under("encoder_q.") | under("encoder_k.")
    three |= under("teacher.", {name: tensor + 1 for name, tensor in HOLLOW.items()})
    with pytest.raises(TransferError, match="3 networks fit"):
        find(three)
    assert find(three, encoder="key").prefix == "encoder_k."
    assert find(three, prefix="teacher").prefix == "teacher."


def test_wrapped_and_bare_names_side_by_side_are_two_networks() -> None:
    other = {name: tensor + 1 for name, tensor in HOLLOW.items()}
    with pytest.raises(TransferError, match="2 networks fit"):
        find(under("module.", other) | under(""))


def test_the_same_tensors_under_two_names_are_one_network() -> None:
    # OpenSelfSup keeps the query encoder as `backbone` too.
    key = {name: tensor + 1 for name, tensor in HOLLOW.items()}
    found = find(under("backbone.") | under("encoder_q.0.") | under("encoder_k.0.", key))
    assert (found.prefix, found.role) == ("encoder_q.0.", "query")


def test_a_network_kept_as_a_list_of_its_children_is_found() -> None:
    numbers = {name: number for number, name in locate.CHILDREN.items()}
    content = {f"backbone.{numbers[name.split('.')[0]]}.{name.partition('.')[2]}": HOLLOW[name] for name in BACKBONE}
    model = torch.nn.Sequential(*list(locate.architecture.Architecture(18).network().children())[:-1])
    assert set(content) == {f"backbone.{name}" for name in model.state_dict()}
    found = find(content)
    assert (found.prefix, found.architecture.name, list(found.state)) == ("backbone.", "resnet18", BACKBONE)


def test_a_second_network_that_is_not_whole_does_not_count() -> None:
    cut = {name: tensor for name, tensor in HOLLOW.items() if not name.startswith("layer4")}
    assert find(under("student.") | under("head.", cut)).prefix == "student."


def test_a_dictionary_that_contains_itself_is_read_to_an_end() -> None:
    content: dict[str, Any] = under("")
    content["again"] = content
    assert find({"x": content}, prefix="x").architecture.name == "resnet18"


def test_two_spellings_of_one_tensor_are_a_fault() -> None:
    content = under("net.") | {"net.layer1._orig_mod.0.conv1.weight": HOLLOW["layer1.0.conv1.weight"]}
    with pytest.raises(TransferError, match=r"twice: layer1\.0\.conv1\.weight is net\.\S+ and net\.\S+"):
        find(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.0.weight": (32, 3, 3, 3), "conv1.weight": None}, "another stem"),
        ({"layer1.0.se.fc1.weight": (4, 64, 1, 1)}, "squeeze-and-excitation"),
        ({name: None for name in BACKBONE if "running_" in name or "tracked" in name}, "group norm"),
        ({"layer1.0.downsample.1.weight": (64,)}, "unknown: layer1.0.downsample.1.weight"),
        ({name: None for name in BACKBONE if name.startswith("layer2.1.")}, r"its layers have \(2, 1, 2, 2\) blocks"),
    ],
)
def test_a_relative_of_the_resnet_is_refused_by_name(change: dict[str, tuple[int, ...] | None], message: str) -> None:
    state = under("")
    for name, shape in change.items():
        if shape is None:
            state.pop(name, None)
        else:
            state[name] = torch.zeros(shape)
    with pytest.raises(TransferError, match=message):
        find(state)


PLAIN = ("resnet18", "resnet50", "wide_resnet50_2", "resnext50_32x4d", "resnext101_32x16d", "resnext101_64x4d")
OTHERS = (
    "resnet50d", "resnet50c", "resnet50s", "resnet50_gn", "seresnet50", "ecaresnet26t", "resnet26", "resnet200",
    "resnetrs50", "legacy_seresnet18", "skresnet18", "resnetv2_18",
)  # fmt: skip


@pytest.mark.parametrize("name", PLAIN + OTHERS)
def test_timms_resnets_convert_where_they_are_torchvisions(name: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    in_no_memory = {key: torch.zeros(()).expand(tensor.shape) for key, tensor in state.items()}
    candidates = locate.find_candidates(in_no_memory)
    assert [candidate.architecture.name for candidate in candidates if not candidate.faults] == (
        [name] if name in PLAIN else []
    )
