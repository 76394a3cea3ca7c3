"""The table of what tools/evaluate.py scores: a new kind of data is a module beside this one, and a line here."""

from . import cityscapes, coco, data, densepose, lvis, semantic, voc

SUBCOMMANDS = (data.DATA, coco.COCO, voc.VOC, lvis.LVIS, cityscapes.CITYSCAPES, semantic.SEMANTIC, densepose.DENSEPOSE)
