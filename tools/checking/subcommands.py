"""The table of what tools/check_dataset.py checks: a new kind of data is a module beside this one, and a line here."""

from . import cityscapes, coco, data, densepose, lvis, semantic, voc

SUBCOMMANDS = (data.DATA, voc.VOC, coco.COCO, lvis.LVIS, cityscapes.CITYSCAPES, semantic.SEMANTIC, densepose.DENSEPOSE)
