"""XML is read with its lines, and a document type ends the reading before it can do anything."""

import pytest

from transfer.data.voc.xml_file import line_of, parse_plain_xml
from transfer.errors import TransferError


def test_elements_know_their_line() -> None:
    root = parse_plain_xml(b"<a>\n <b>x\n</b>\r\n<c/><d/>\n</a>\n")
    assert {element.tag: line_of(element) for element in root.iter()} == {"a": 1, "b": 2, "c": 4, "d": 4}
    assert root.findtext("b") == "x\n"


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 30))
BOMB = f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}]>\n<a>&l29;</a>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_billion_laughs_are_refused_in_every_encoding(encoding: str) -> None:
    with pytest.raises(TransferError, match="line 1: plain XML without DOCTYPE and entities is expected"):
        parse_plain_xml(BOMB.encode(encoding))


def test_an_encoding_cannot_hide_a_document_type() -> None:
    """EBCDIC has other bytes for the word; a search for them would pass over it."""
    for encoding in ("cp037", "cp500", "iso8859-15"):
        head = f'<?xml version="1.0" encoding="{encoding}"?>\n'.encode()
        with pytest.raises(TransferError):
            parse_plain_xml(head + BOMB.encode(encoding))


def test_other_files_are_not_fetched() -> None:
    with pytest.raises(TransferError, match="line 2: plain XML"):
        parse_plain_xml(b'<?xml version="1.0"?>\n<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>')


@pytest.mark.parametrize(
    "data",
    [b"", b"<a>", b"<a></b>", b"<a/><a/>", b"<a>&b;</a>", b"<a>\0</a>", b"<a>\xff</a>", b"\xff\xfe<", b"<a " * 9],
)
def test_invalid_xml_is_refused_with_its_place(data: bytes) -> None:
    with pytest.raises(TransferError, match=r"not XML \(.*line \d+, column \d+"):
        parse_plain_xml(data)


@pytest.mark.parametrize(
    ("data", "repair"),
    [
        ("<a>\n苹果</a>".encode("gbk"), "its bytes are not UTF-8: save it as UTF-8, or declare"),
        (b"<a>\n<b>M&M</b></a>", "line 2, column 6): write &amp; for the character &"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "`git lfs pull` fetches it"),
    ],
)
def test_the_repair_of_what_is_not_xml_is_named(data: bytes, repair: str) -> None:
    with pytest.raises(TransferError) as caught:
        parse_plain_xml(data)
    assert repair in str(caught.value)


def test_declared_encodings_are_read() -> None:
    for encoding in ("iso-8859-1", "windows-1252", "utf-16"):
        root = parse_plain_xml(f'<?xml version="1.0" encoding="{encoding}"?><a>Käse</a>'.encode(encoding))
        assert root.text == "Käse"


def test_deep_nesting_is_read() -> None:
    deep = 200_000
    assert parse_plain_xml(b"<a>" * deep + b"</a>" * deep).tag == "a"


@pytest.mark.parametrize("encoding", ["gb2312", "GBK", "big5", "Shift_JIS", "euc-kr"])
def test_encodings_of_east_asian_systems_are_read(encoding: str) -> None:
    name = {"euc-kr": "고양이", "Shift_JIS": "ねこ"}.get(encoding, "貓" if encoding == "big5" else "猫")
    root = parse_plain_xml(f'<?xml version="1.0" encoding="{encoding}"?>\n<a>{name}</a>'.encode(encoding))
    assert (root.text, line_of(root)) == (name, 2)


def test_utf_16_declared_over_8_bits_is_read_as_utf_8() -> None:
    """Programs for Windows declare the encoding of their memory and write another."""
    assert parse_plain_xml('<?xml version="1.0" encoding="utf-16"?><a>Käse</a>'.encode()).text == "Käse"


def test_an_east_asian_encoding_hides_no_document_type() -> None:
    with pytest.raises(TransferError, match="plain XML without DOCTYPE"):
        parse_plain_xml(b'<?xml version="1.0" encoding="gbk"?>\n' + BOMB.encode("gbk"))
    with pytest.raises(TransferError, match="not XML in the encoding gbk that it declares"):
        parse_plain_xml(b'<?xml version="1.0" encoding="gbk"?><a>\xff\xff</a>')
