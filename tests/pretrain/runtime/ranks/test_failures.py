"""The text for the user of the errors of several processes."""

from pretrain.runtime.ranks.failures import Failure, describe_failures, describe_ranks


def failure(rank: int, text: str = "no such file", host: str = "a", **more: bool) -> Failure:
    return Failure(rank, host, text, 2, **more)


def test_the_message_of_all_ranks_names_none() -> None:
    assert describe_failures([failure(0), failure(1)], 2) == "error: no such file"


def test_a_message_names_the_ranks_and_hosts_that_met_it() -> None:
    found = [failure(rank, host="ab"[rank // 4]) for rank in (0, 1, 2, 5, 7)]
    assert describe_failures([*found, failure(3, "")], 8) == (
        "error on ranks 0 to 2 of host a and ranks 5, 7 of host b: no such file"
    )


def test_many_hosts_are_counted() -> None:
    assert describe_ranks([failure(rank, host=str(rank)) for rank in range(20)]).endswith("and 12 more hosts")


def test_errors_that_follow_are_left_out() -> None:
    followed = failure(0, "Connection closed by peer", is_bug=True, follows=True)
    assert describe_failures([followed, failure(1)], 2) == "error on rank 1 of host a: no such file"


def test_a_rank_that_left_no_word_is_named() -> None:
    followed = failure(0, "Connection closed by peer", is_bug=True, follows=True)
    said = describe_failures([followed, failure(1, "")], 3)
    assert said.startswith("error: a process has gone, rank 2 has left no message")
    assert said.endswith("error on rank 0 of host a:\nConnection closed by peer")
