"""The model card beside a .safetensors file: what it holds, where it comes from, how it is loaded."""

from pathlib import Path
from typing import Any

_TEXT = """\
---
library_name: timm
tags: [image-feature-extraction, {arch}]
---
# {label}: {arch} backbone

A ResNet without a classifier, under torchvision's names, which timm shares.

| | |
|---|---|
| architecture | {arch} |
| trained by | {label}, epoch {epoch} |
| converted from | `{source}`, SHA-256 `{source_sha256}` |
| input | {channel_order}, 0 to 255, minus mean {pixel_mean}, divided by std {pixel_std} |
| stride | in the 3x3 convolution (Detectron2: `STRIDE_IN_1X1 {stride_in_1x1}`) |
| proof | {tensors} tensors; feature maps as the source's to {difference:.1g} of their range, by {engine} |

```python
import timm
model = timm.create_model("{arch}", num_classes=0, checkpoint_path="{file}")
```

Written by moco-transfer. Its license is that of the weights it was made from.
"""


def path(output: Path) -> Path:
    """Where the card of the file `output` stands."""
    return output.with_suffix(".md")


def text(arch: str, metadata: dict[str, Any], file: str) -> str:
    """The card. `metadata` as transfer.conversion.convert makes it; `file`: the name of the file it describes."""
    known = {**metadata, **metadata["proof"], "arch": arch, "file": file}
    if known["epoch"] is None:
        known["epoch"] = "not stated"
    return _TEXT.format(**known)
