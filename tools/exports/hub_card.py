"""The model card of a backbone on the Hugging Face Hub: a YAML header, and what a reader must know to use it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pretrain.config.schema import PATHS
from pretrain.runtime.provenance import package_versions
from transfer.conversion.convert import Conversion
from transfer.report.page import escape_markdown
from transfer.weights.method import is_self_supervised

from .hub_results import ScoreTable

_TEXT = """\
# {name}: {arch} backbone, trained by {method}

A ResNet without a classifier, under torchvision's names, which timm shares.

## Use

```python
import timm
model = timm.create_model("hf-hub:YOUR_NAME/{name}", pretrained=True, num_classes=0)
```

`local-dir:FOLDER` in place of `hf-hub:YOUR_NAME/{name}` loads the folder before it is uploaded. Images are RGB from 0
to 255, minus mean {pixel_mean}, divided by std {pixel_std}; `timm.data.resolve_model_data_config(model)` has the same
numbers for images from 0 to 1. In Detectron2 the stride is in the 3x3 convolution (`STRIDE_IN_1X1 False`).

## Training

| | |
|---|---|
{training}
{recipe}
## Results

{results}

## Files

| | |
|---|---|
| `model.safetensors` | {size:,} bytes, SHA-256 `{sha256}` |
| made from | {source}, SHA-256 `{source_sha256}`, tensors named `{prefix}*` |
| made by | {made_by} |
| checked | {tensors} tensors; feature maps as the source's to {difference:.1g} of their range, by {engine} |

## License

{license_text}
"""
_NOT_THE_RECIPE = frozenset((*PATHS, "data.workers", "data.max_broken"))  # paths and the machine


@dataclass(frozen=True)
class Made:
    """The file of weights as it was written: the code's revision, the SHA-256 of the file and its size in bytes."""

    revision: str | None
    sha256: str
    size: int


def card_text(
    conversion: Conversion, name: str, license_name: str, made: Made, tables: Sequence[ScoreTable] = ()
) -> str:
    """Write the text of README.md. It holds no path of this machine, only names of files.

    Args:
        conversion: the backbone.
        name: of the folder.
        license_name: the Hub's identifier.
        made: the file of weights.
        tables: scores with this backbone among their rows.
    """
    metadata, record = conversion.metadata, conversion.source.record
    recipe = _recipe(record.get("config", {}))
    proof = metadata["proof"]
    return _header(metadata, license_name) + _TEXT.format(
        **{key: metadata[key] for key in ("pixel_mean", "pixel_std", "source_sha256")},
        name=re.sub(r"[^A-Za-z0-9._-]", "-", name),  # what the Hub allows in a name
        arch=conversion.arch,
        method=escape_markdown(_method(metadata)),
        source=_code(metadata["source"]),
        training="\n".join(f"| {key} | {value} |" for key, value in _training(metadata, record)),
        recipe=f"\nThe settings of the run:\n\n```yaml\n{recipe}```\n" if recipe else "",
        results=_results(tables),
        size=made.size,
        sha256=made.sha256,
        prefix=metadata.get("prefix", ""),
        made_by=_made_by(made),
        tensors=proof["tensors"],
        difference=proof["difference"],
        engine=proof["engine"],
        license_text=_license_text(license_name),
    )


def _header(metadata: Mapping[str, Any], license_name: str) -> str:
    """Return the YAML header, which the Hub reads."""
    tags = ["image-feature-extraction", "timm", metadata["arch"], "moco-transfer"]
    if is_self_supervised(_method(metadata)):
        tags.append("self-supervised-learning")
    header = {
        "license": license_name,
        "library_name": "timm",
        "pipeline_tag": "image-feature-extraction",
        "tags": tags,
    }
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n"


def _method(metadata: Mapping[str, Any]) -> str:
    found = metadata.get("method", metadata["label"])  # without "method": a file converted before version 0.1
    return "a method that the source does not name" if found is None else found


def _training(metadata: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is known of the training, and say of the rest that it is not."""
    not_recorded = "not recorded in the source file"
    images, digest = record.get("images"), record.get("digest")
    folder = Path(record.get("config", {}).get("data.root") or "").name
    known = not_recorded
    if images:
        known = f"{images:,} images of {_code(folder)}" + (f", digest `{digest}`" if digest else "")
    yield "method", escape_markdown(_method(metadata))
    yield "data", known
    yield "epochs", not_recorded if metadata["epoch"] is None else str(metadata["epoch"])
    if seen := metadata.get("images_seen"):
        yield "images seen", f"{seen:,}"
    if start := metadata.get("began_from"):
        name = _code(Path(start["path"]).name)
        yield "began from", f"{escape_markdown(start['label'])}: {name}, SHA-256 `{start['sha256']}`"
    if not record.get("config"):
        yield "recipe", not_recorded


def _recipe(config: Mapping[str, Any]) -> str:
    """Return the settings that decide what was learnt, as YAML; paths and the machine are left out."""
    sections = ("data", "model", "optim", config.get("model.mechanism", "moco"))
    kept = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in config.items()
        if (key.partition(".")[0] in sections or key == "seed") and key not in _NOT_THE_RECIPE
    }
    return yaml.safe_dump(kept, sort_keys=False, default_flow_style=None) if kept else ""


def _results(tables: Sequence[ScoreTable]) -> str:
    """Return a Markdown table for each table of scores."""
    if not tables:
        return "None are given with this backbone."
    return "\n\n".join(map(_score_table, tables)) + (
        "\n\nPoints from 0 to 100; mean \N{PLUS-MINUS SIGN} sample standard deviation over the trials. The row in bold "
        "began from this backbone."
    )


def _score_table(table: ScoreTable) -> str:
    columns = table["shown"]
    lines = [
        f"{escape_markdown(table['title'])}\n",
        f"| began from | {' | '.join(escape_markdown(column['title']) for column in columns)} | trials |",
        "|---|" + "---:|" * (len(columns) + 1),
    ]
    for row in table["rows"]:
        label = escape_markdown(row["label"])
        cells = [_score(row["scores"].get(column["key"])) for column in columns]
        lines.append(f"| {f'**{label}**' if row['is_this'] else label} | {' | '.join(cells)} | {row['n']} |")
    return "\n".join(lines)


def _score(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return ""
    return f"{score['mean']:.1f}" + ("" if score["std"] is None else f" \N{PLUS-MINUS SIGN} {score['std']:.1f}")


def _made_by(made: Made) -> str:
    version = package_versions(["moco-transfer"]).get("moco-transfer", "of a clone that is not installed")
    return f"moco-transfer {version}, " + (f"revision `{made.revision}`" if made.revision else "revision not known")


def _code(text: str) -> str:
    """Return a name as code within a table."""
    return f"`{re.sub(r'[`|]', '?', ' '.join(text.split()))}`"


def _license_text(license_name: str) -> str:
    if license_name == "unknown":
        return (
            "**Unknown: nobody has named it.** It is that of the weights that these were made from, and may depend on "
            "that of the images. Name it in the header before others use the model."
        )
    return f"{license_name}, as stated by who made this folder."
