"""Every position has a stream of random numbers of its own."""

from pretrain.runtime import seeds


def test_positions_have_their_own_streams() -> None:
    positions = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0), (0, 0, 11), (0, 1, 1), (0, 11, 0)]
    assert len({seeds.seed_of("views", *position) for position in positions}) == len(positions)
    assert seeds.seed_of("views", 0, 1, 2) == 8958201015310368248  # the same on every machine, for ever
