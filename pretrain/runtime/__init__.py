"""The door to the transfer stage: what both stages run on. It knows no image, no model and no setting."""

from pretrain.runtime import host

host.refuse_windows()  # before a module below imports what Windows lacks
