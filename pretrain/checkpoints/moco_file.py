"""The published checkpoint layout, and the names of its files and architectures.

The layout is that of the published MoCo code, so that its files load here and ours load there:

    epoch       number of finished epochs
    arch        torchvision's name of the encoder, "resnet50"
    state_dict  module.encoder_q.*, module.encoder_k.*, module.queue (dim, K), module.queue_ptr (1,)
    optimizer   SGD's state

Ours has one key more: `moco_transfer`, what else a bit-exact resume needs (see pretrain/trainer.py).
"""

# torchvision's names of the encoders that a run can train
ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


def file_name(epoch: int, step: int | None = None) -> str:
    """Return the published name of a checkpoint: `checkpoint_0004.pth.tar` after the fifth epoch, whose index is 4.

    Within an epoch `checkpoint_0004_step_00001234.pth.tar`: 1,234 steps of the run are done, the last in epoch 4.
    """
    within = "" if step is None else f"_step_{step:08d}"
    return f"checkpoint_{epoch:04d}{within}.pth.tar"
