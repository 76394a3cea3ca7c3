"""The kernels of a step: torch's own one by one, compiled by torch.compile, or recorded as CUDA graphs.

A step of a ResNet-50 launches some 900 kernels, most of them small. Compiled, those between two convolutions become
one; recorded, those of an encoder are launched together. Weights, buffers and their names stay what they are.
"""

import contextlib
import importlib.util
import os
import pathlib
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import ParamSpec

P = ParamSpec("P")

MOST_IMAGES = 64  # of a process, up to which a graph can pay: with more, the GPU takes longer than the launches
OLDEST_GPU = (7, 0)  # compute capability that Triton needs: Volta and later


def compiler_fault(device: torch.device) -> str | None:
    """Return what torch.compile lacks on this machine, with its remedy; None where it has all."""
    on_gpu = device.type == "cuda"  # there Triton compiles what calls its kernels, in C
    compilers = ("gcc", "clang") if on_gpu else ("clang++",) if sys.platform == "darwin" else ("g++",)
    named = os.environ.get("CC" if on_gpu else "CXX")
    if not any(map(shutil.which, [named] if named else compilers)):
        language, name = "C" if on_gpu else "C++", named or " or ".join(compilers)
        return f"a {language} compiler, {name}, which is not installed (Debian and Ubuntu: apt-get install g++)"
    if not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Python's C headers, which are not installed (Debian and Ubuntu: apt-get install python3-dev)"
    if not on_gpu:
        return None
    if importlib.util.find_spec("triton") is None:
        return "Triton, which is not installed (pip install triton)"
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < OLDEST_GPU:
        return f"a GPU of compute capability {OLDEST_GPU[0]}.{OLDEST_GPU[1]}; this one has {major}.{minor}"
    return None


def compile_encoders(model: nn.Module, deterministic: bool, backend: str = "inductor") -> None:
    """Compile the encoders of a method, in place, each as one graph for the one shape of a step's images.

    They are compiled by their first step, in training mode. A check of the features calls their layers, which stay as
    they are.

    Args:
        model: whose children named `encoder_...` are compiled.
        deterministic: choose no kernel by its time, which would give other last bits from run to run.
        backend: of torch.compile.
    """
    options = _inductor_options("deterministic") if deterministic and backend == "inductor" else None
    for encoder in _encoders(model):
        encoder.compile(dynamic=False, fullgraph=True, backend=backend, options=options)


def compile_exactly(function: Callable[P, Tensor], backend: str = "inductor") -> Callable[P, Tensor]:
    """Compile a function of tensors as one graph that rounds as its operations do one by one.

    On a GPU, inductor would else divide with an error of 2 units in the last place, and add products unrounded: a
    colour that lies on the edge between two levels could fall on the other side.
    """
    exact = _inductor_options("eager_numerics.division_rounding", "emulate_precision_casts", "deterministic")
    options = exact if backend == "inductor" else None
    compiled: Callable[P, Tensor] = torch.compile(
        function, dynamic=False, fullgraph=True, backend=backend, options=options
    )
    return compiled


def _inductor_options(*names: str) -> dict[str, Any]:
    """Return the options of inductor that are to be on, of those that this version of torch has."""
    import torch._inductor

    known = torch._inductor.list_options()
    return {name: True for name in names if name in known}


def record_encoders(model: nn.Module, images: Tensor, dtype: torch.dtype | None) -> None:
    """Record forward and backward of a method's encoders as CUDA graphs, in place; before DDP gets the method.

    Gradients lie where the graph has put them until the next step's replay: they must be used up by then, and not be
    added up. A method must pass each encoder once a step. In eval mode an encoder is what it was.

    Args:
        model: whose children named `encoder_...` are recorded, in training mode, on a GPU, with their weights.
        images: (N, 3, H, W) float32 on the GPU, normalised, laid out as those of a step; the values do not matter.
        dtype: of autocast; None: no autocast.
    """
    for encoder in _encoders(model):
        # autocast's cache would keep casts of this moment's weights
        autocast = torch.autocast("cuda", dtype, enabled=dtype is not None, cache_enabled=False)
        with unchanged_buffers(encoder), autocast:
            torch.cuda.make_graphed_callables(encoder, (images.clone(memory_format=torch.preserve_format),))


@contextlib.contextmanager
def unchanged_buffers(module: nn.Module) -> Iterator[None]:
    """A block after which the buffers, such as BN's running statistics, hold what they held before it."""
    before = [buffer.clone() for buffer in module.buffers()]
    yield
    for buffer, value in zip(module.buffers(), before, strict=True):
        buffer.copy_(value)


def _encoders(model: nn.Module) -> list[nn.Module]:
    return [part for name, part in model.named_children() if name.startswith("encoder_")]
