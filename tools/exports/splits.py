"""The splits of an export: those that it has, or one drawn by a seed."""

import random
from collections.abc import Mapping, Sequence

from transfer.data.common.exports import SPLITS
from transfer.errors import TransferError

from .contents import Picture

TRAIN, VAL, TEST = "train2017", "val2017", "test2017"  # COCO's own names; the first two are names of Detectron2


def parse_split(text: str) -> tuple[int, int] | None:
    """Return the shares of `--split 80/20`, in any unit; None for "none".

    Raises:
        TransferError: another text.
    """
    if text == "none":
        return None
    shares = text.split("/")
    if len(shares) != 2 or not all(share.isascii() and share.isdigit() and 0 < int(share) < 10**6 for share in shares):
        raise TransferError(f"--split {text}: two whole numbers are expected, such as 80/20, or none")
    return int(shares[0]), int(shares[1])


def named_splits(splits: Mapping[str, Sequence[Picture]], asked: str | None, seed: int) -> dict[str, Sequence[Picture]]:
    """Return the pictures by the names of COCO's splits.

    Args:
        splits: as an export has them, "" for none.
        asked: the text of `--split`; None where it is not given.
        seed: of the drawing. The same names of files and the same seed give the same split.

    Raises:
        TransferError: a split is needed and not asked for, or asked for and there already.
    """
    own = [name for name in SPLITS if name in splits]
    if own and "" in splits:
        stray = splits[""]
        raise TransferError(
            f"{len(stray)} images, such as {stray[0].file}, lie outside the folders of the splits {', '.join(own)}: "
            "move them into one"
        )
    if len(own) > 1:
        if asked is not None:
            raise TransferError(f"--split {asked}: the export has its own splits: {', '.join(own)}")
        return _own_splits(splits)
    (pictures,) = splits.values()
    if asked is None:
        raise TransferError(
            "the export has no split into training and test images: --split 80/20 draws one, by --seed 0 or another "
            "number; --split none writes all images into one"
        )
    shares = parse_split(asked)
    if shares is None:
        return {TRAIN: pictures}
    if len(pictures) < 2:
        raise TransferError(f"--split {asked}: {len(pictures)} images cannot be split")
    shuffled = sorted(pictures, key=lambda picture: picture.name)
    random.Random(seed).shuffle(shuffled)
    count = min(max(round(len(shuffled) * shares[0] / sum(shares)), 1), len(shuffled) - 1)
    return {
        TRAIN: sorted(shuffled[:count], key=lambda picture: picture.name),
        VAL: sorted(shuffled[count:], key=lambda picture: picture.name),
    }


def _own_splits(splits: Mapping[str, Sequence[Picture]]) -> dict[str, Sequence[Picture]]:
    names = {"train": TRAIN, "val": VAL, "test": TEST if "val" in splits else VAL}
    return {names[name]: splits[name] for name in names if name in splits}
