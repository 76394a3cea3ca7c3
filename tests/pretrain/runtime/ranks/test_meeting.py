"""The facts that processes of one run must have in common."""

from typing import Any

from pretrain.runtime.ranks import meeting


def facts(host: str = "a", gpu: str | None = None, **more: Any) -> dict[str, Any]:
    same = {"world": 2, "device": "cuda", "torch": "2.6", "code": "0123", "settings": {"lr": "1"}}
    return {"host": host, "gpu": gpu, **same, **more}


def test_equal_processes_fit() -> None:
    assert meeting.compare_facts([facts(gpu="0"), facts(gpu="1"), facts(host="b", gpu="0")]) == []


def test_what_differs_is_named_with_its_ranks() -> None:
    for key, name in meeting.SHARED.items():
        (fault,) = meeting.compare_facts([facts(), facts(), facts("b", **{key: "other"})])
        assert fault.startswith(f"  {name} differs: ")
        assert fault.endswith("other on rank 2 of host b")
    (fault,) = meeting.compare_facts([facts(), facts(settings={})])
    assert fault == "  lr differs: 1 on rank 0 of host a; None on rank 1 of host a"


def test_a_gpu_of_two_processes_is_refused() -> None:
    (fault,) = meeting.compare_facts([facts(gpu="GPU-1"), facts(gpu="GPU-1"), facts("b", gpu="GPU-1")])
    assert "ranks 0, 1 of host a share one GPU (GPU-1)" in fault


def test_the_digest_of_the_code_is_the_same_twice() -> None:
    assert meeting.digest_code() == meeting.digest_code()
