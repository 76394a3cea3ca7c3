"""XML as annotations need it: no document type, hence no entities, which is how XML attacks its reader."""

import xml.etree.ElementTree as ET
from xml.parsers import expat

from transfer.errors import TransferError


class _Element(ET.Element):
    line = 0


def line_of(element: ET.Element) -> int:
    """The line of its file, from 1, on which an element of `parse` begins."""
    if not isinstance(element, _Element):
        raise TypeError(f"{element!r} was not made by parse")
    return element.line


def parse(data: bytes) -> ET.Element:
    """The outermost element. TransferError says what is no plain XML, and where."""
    parser = expat.ParserCreate()
    builder = ET.TreeBuilder(element_factory=_Element)

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = builder.start(tag, attributes)
        element.line = parser.CurrentLineNumber  # type: ignore[attr-defined]  # the factory made it

    def doctype(*_: object) -> None:
        raise TransferError(f"line {parser.CurrentLineNumber}: plain XML without DOCTYPE and entities is expected")

    parser.StartElementHandler, parser.EndElementHandler = start, builder.end
    parser.CharacterDataHandler, parser.buffer_text = builder.data, True
    parser.StartDoctypeDeclHandler = doctype  # called before anything of it is expanded
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError) as error:  # LookupError: an encoding nobody knows
        raise TransferError(f"not XML ({error})") from error
