"""Exif, XMP, IPTC and PNG texts: what is found in them, and that none costs more than its limit."""

from __future__ import annotations

import struct
import zlib

import pytest
from PIL import Image

from d3.adapters.pillow import PillowDecoder
from d3.adapters.provenance import Metadata, ProvenanceReader
from d3.adapters.provenance.exif import read_exif
from d3.adapters.provenance.metadata import MAX_PARTS
from d3.adapters.provenance.texts import MAX_ALL_BYTES, read_texts
from d3.adapters.provenance.words import MAX_TEXT_BYTES, is_editor, is_generator, line
from d3.adapters.provenance.xmp import read_credit
from d3.domain.provenance import Says
from images import encoded, picture, with_png_chunks
from tests.support.images import png_chunk
from tests.support.metadata import (
    EXIF_LOOPS,
    IPTC,
    XMP_BOMBS,
    exif,
    generated_xmp,
    reading,
    xmp_packet,
)


def test_exif_speaks_of_the_camera_the_program_and_the_dates() -> None:
    found = read_exif(
        exif(
            make="Canon",
            model="Canon EOS 7D",
            software="Ver.1.10",
            modified_at="2020:01:02 03:04:05",
            created_at="2020:01:01 00:00:00",
        ),
        position=False,
    )
    assert found.said("make") == "Canon"
    assert found.date("created_at") == "2020-01-01 00:00:00"
    assert found.date("modified_at") == "2020-01-02 03:04:05"
    assert found.position is None


@pytest.mark.parametrize("comment", ["Steps: 20, ü", "x" * 3000])
@pytest.mark.parametrize(
    ("code", "encoding"),
    [(b"UNICODE\0", "utf-16-le"), (b"UNICODE\0", "utf-16-be"), (b"ASCII\0\0\0", "ascii")],
)
def test_a_comment_is_read_whatever_its_encoding(comment: str, code: bytes, encoding: str) -> None:
    raw = code + comment.encode(encoding, "replace")
    found = read_exif(exif(comment=raw), position=False)
    assert found.texts["comment"] == comment.encode(encoding, "replace").decode(encoding)


STEPS = "a castle, très\nSteps: 20, Sampler: Euler, Model: x"


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [1, 2, 6, 7, 129])
@pytest.mark.parametrize(
    "raw",
    [
        STEPS.encode(),
        STEPS.encode("latin-1"),
        b"ASCII\0\0\0" + STEPS.encode(),
        b"JIS\0\0\0\0\0" + STEPS.encode("iso2022_jp", "ignore"),
        bytes(8) + STEPS.encode(),
        b"UNICODE\0" + STEPS.encode("utf-16-le"),
        b"UNICODE\0" + STEPS.encode("utf-16-be"),
        b"UNICODE\0" + STEPS.encode("utf-16"),
        b"Unicode\0" + STEPS.encode("ascii", "ignore"),
        STEPS.encode("utf-16-le"),
        STEPS.encode("utf-16-be"),
        STEPS.encode("utf-16"),
    ],
)
def test_a_record_is_read_from_a_comment_of_each_type(order: str, kind: int, raw: bytes) -> None:
    entry = struct.pack(order + "HHII", 0x9286, kind, len(raw), 26)
    head = b"II*\0" if order == "<" else b"MM\0*"
    data = head + struct.pack(order + "IH", 8, 1) + entry + bytes(4) + raw
    (source,) = reading(exif=data).sources
    assert (source.generator, source.model) == ("Stable Diffusion web UI", "x")


@pytest.mark.parametrize("value", [STEPS, STEPS.encode(), b"UNICODE\0" + STEPS.encode("utf-16-be")])
def test_a_record_that_pillow_wrote_is_read(value: str | bytes) -> None:
    made = Image.Exif()
    made[0x9286] = value
    assert reading(exif=made.tobytes().removeprefix(b"Exif\0\0")).says is Says.GENERATED


def test_many_unknown_tags_hide_none() -> None:
    tags = b"".join(struct.pack("<HHII", 0xC000 + n % 999, 4, 1, 0) for n in range(5_000))
    tags += struct.pack("<HHI4s", 0x0131, 2, 4, b"SDXL")
    assert reading(exif=b"II*\0\x08\0\0\0" + struct.pack("<H", 5_001) + tags).says is Says.GENERATED


def test_a_position_is_read_only_on_request() -> None:
    data = exif(make="A", position=((48, "N"), (2, "E")))
    assert read_exif(data, position=True).position == "48.00000, 2.00000"
    assert read_exif(data, position=False).position is None
    south = exif(make="A", position=((33, "S"), (70, "W")))
    assert read_exif(south, position=True).position == "-33.00000, -70.00000"


@pytest.mark.parametrize("name", EXIF_LOOPS)
def test_exif_that_goes_round_ends(name: str) -> None:
    assert read_exif(EXIF_LOOPS[name](), position=True).position is None


@pytest.mark.parametrize("length", range(0, 60, 3))
def test_exif_that_is_cut_short_is_read_as_far_as_it_goes(length: int) -> None:
    read_exif(exif(make="Canon", model="EOS", software="x" * 40)[:length], position=True)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("trainedAlgorithmicMedia", Says.GENERATED),
        ("compositeWithTrainedAlgorithmicMedia", Says.GENERATED),
        ("compositeSynthetic", Says.GENERATED),
        ("algorithmicMedia", Says.GENERATED),
        ("humanEdits", Says.EDITED),
        ("algorithmicallyEnhanced", Says.EDITED),
        ("digitalCapture", Says.CAMERA),
        ("computationalCapture", Says.CAMERA),
        ("negativeFilm", Says.CAMERA),
        ("screenCapture", Says.NOTHING),
        ("digitalCreation", Says.NOTHING),
        ("somethingNew", Says.NOTHING),
    ],
)
@pytest.mark.parametrize("form", ["attribute", "element", "resource"])
def test_the_iptcs_source_type_is_read_in_each_of_its_forms(word, says, form) -> None:
    found = reading(xmp=[generated_xmp(word, form)])
    assert found.says is says
    assert found.sources[0].digital_source_type == word


def test_an_ai_system_that_is_named_generated_the_picture() -> None:
    packet = xmp_packet(
        "<Iptc4xmpExt:AISystemUsed>Painter</Iptc4xmpExt:AISystemUsed>"
        "<Iptc4xmpExt:AIPromptInformation><rdf:Alt><rdf:li>a cat</rdf:li></rdf:Alt>"
        "</Iptc4xmpExt:AIPromptInformation>"
    )
    found = reading(xmp=[packet])
    assert found.says is Says.GENERATED
    assert (found.sources[0].generator, found.sources[0].prompt) == ("Painter", True)
    assert "a cat" not in found.to_json()


@pytest.mark.parametrize("name", XMP_BOMBS)
def test_an_xmp_bomb_is_not_opened(name: str) -> None:
    found = reading(xmp=[XMP_BOMBS[name]()])
    (source,) = found.sources
    assert found.says is Says.NOTHING
    assert source.reason is not None
    assert source.reason.startswith("The XMP")


def test_a_packet_in_utf_16_is_read() -> None:
    packet = generated_xmp("digitalCapture").decode().encode("utf-16")
    assert reading(xmp=[packet]).says is Says.CAMERA


def test_a_packet_cut_short_is_read_as_far_as_it_goes() -> None:
    packet = generated_xmp("digitalCapture")
    assert reading(xmp=[packet[: packet.index(b"</rdf:RDF")]]).says is Says.CAMERA


BAG = """<Iptc4xmpExt:DigitalSourceType><rdf:Bag>
    <rdf:li>{0}trainedAlgorithmicMedia</rdf:li><rdf:li>{0}digitalCapture</rdf:li>
</rdf:Bag></Iptc4xmpExt:DigitalSourceType>"""
RESOURCES = BAG.replace("<rdf:li>", '<rdf:li rdf:resource="').replace("</rdf:li>", '"/>')


@pytest.mark.parametrize(
    "packets",
    [
        [generated_xmp("digitalCapture"), generated_xmp("trainedAlgorithmicMedia")],
        [generated_xmp("trainedAlgorithmicMedia"), generated_xmp("digitalCapture")],
        [xmp_packet(BAG.format(IPTC))],
        [xmp_packet("".join(BAG.format(IPTC).split("\n")))],
        [xmp_packet(RESOURCES.format(IPTC))],
    ],
)
def test_of_several_source_types_the_weightiest_counts_and_all_are_shown(packets) -> None:
    found = reading(xmp=packets)
    assert found.says is Says.GENERATED
    assert [(one.says, one.digital_source_type) for one in found.sources] == [
        (Says.GENERATED, "trainedAlgorithmicMedia"),
        (Says.CAMERA, "digitalCapture"),
    ]


def test_a_second_packets_program_is_not_hidden_by_the_first() -> None:
    packets = [xmp_packet(attributes=f'xmp:CreatorTool="{one}"') for one in ("Ver 1", "Midjourney")]
    assert reading(xmp=packets).says is Says.GENERATED


@pytest.mark.parametrize("word", ["None", "n/a", "No AI", " - "])
def test_no_ai_system_is_none(word: str) -> None:
    packet = xmp_packet(f"<Iptc4xmpExt:AISystemUsed>{word}</Iptc4xmpExt:AISystemUsed>")
    assert reading(xmp=[packet]).says is Says.NOTHING


def test_a_packet_that_repeats_itself_says_that_it_was_cut_off() -> None:
    more = "".join(f"<xmp:CreatorTool>{n}</xmp:CreatorTool>" for n in range(500))
    (source, _) = reading(xmp=[xmp_packet(more)]).sources
    assert "repeats itself" in str(source.reason)


def test_packets_beyond_the_limit_are_told_of() -> None:
    metadata = Metadata()
    for _ in range(MAX_PARTS + 1):
        metadata.add_xmp(xmp_packet())
    found = ProvenanceReader().read("JPEG", b"", metadata)
    assert ["more metadata than D3 reads" in str(one.reason) for one in found.sources] == [True]


def test_the_old_iptc_record_has_a_credit() -> None:
    credit = b"\x1c\x02\x50\0\3Joe\x1c\x02\x6e\0\x13Made with Google AI"
    assert read_credit(credit) == "Made with Google AI"
    assert read_credit(b"\x1c\x02\x6e\x80\4" + b"\xff" * 4) is None
    assert read_credit(b"\x1c\x02\x6e") is None


def test_png_texts_are_read_in_their_three_forms() -> None:
    texts, packets, is_cut = read_texts(
        [
            (b"tEXt", b"parameters\0a b"),
            (b"tEXt", b"parameters\0c"),
            (b"zTXt", b"workflow\0\0" + zlib.compress(b"{}")),
            (b"iTXt", b"Description\0\1\0en\0\0" + zlib.compress("ü".encode())),
            (b"tEXt", "Comment\0ü".encode()),
            (b"tEXt", b"Source\0\xfc"),
            (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"),
            (b"tEXt", b"Private\0secret"),
        ]
    )
    assert texts == {
        "parameters": ["a b", "c"],
        "workflow": ["{}"],
        "Description": ["ü"],
        "Comment": ["ü"],
        "Source": ["ü"],
    }
    assert not is_cut
    assert packets == [b"<x/>"]


def test_texts_unpack_to_their_limit_and_no_further() -> None:
    bomb = zlib.compress(bytes(100 * 2**20), 9)
    names = (b"parameters", b"prompt", b"workflow", b"Comment", b"Source", b"Software")
    texts, _, is_cut = read_texts([(b"zTXt", name + b"\0\0" + bomb) for name in names])
    assert is_cut
    assert {len(one) for (one,) in texts.values()} == {MAX_TEXT_BYTES}
    assert sum(len(one) for (one,) in texts.values()) <= MAX_ALL_BYTES
    assert read_texts([(b"zTXt", b"prompt\0\0no zlib")]) == ({}, [], False)
    broken = [(b"iTXt", b"prompt\0"), (b"tEXt", b"prompt"), (b"zTXt", b"")]
    assert read_texts(broken) == ({}, [], False)


RECORD = png_chunk(b"tEXt", b"parameters\0a\nSteps: 20, Sampler: Euler, Model: m")


@pytest.mark.parametrize("keyword", [b"Padding", b"Comment", b"Software", b"XML:com.adobe.xmp"])
def test_texts_in_front_do_not_hide_a_record(keyword: bytes) -> None:
    bomb = zlib.compress(bytes(3 * 2**20), 9)
    chunks = [png_chunk(b"zTXt", keyword + b"\0\0" + bomb)] * 100
    data = with_png_chunks(encoded(picture(64, 48), "PNG"), *chunks, RECORD)
    found = PillowDecoder().decode(data, 56).facts.provenance
    assert found is not None
    assert found.says is Says.GENERATED
    cut = [one for one in found.sources if "more metadata than D3 reads" in str(one.reason)]
    assert len(cut) == (keyword != b"Padding")


def test_a_text_that_is_too_long_is_told_of() -> None:
    long = png_chunk(b"tEXt", b"prompt\0" + b" " * (MAX_TEXT_BYTES + 1000))
    data = with_png_chunks(encoded(picture(64, 48), "PNG"), long)
    found = PillowDecoder().decode(data, 56).facts.provenance
    assert found is not None
    assert "more metadata than D3 reads" in str(found.sources[0].reason)


def test_a_line_is_one_visible_line() -> None:
    assert line("a\n\tb\u202e\0c \ud800") == "a bc"
    assert line(" \u200b ") is None
    assert len(line("x" * 10**6) or "") == 120


def test_programs_are_known_by_their_names() -> None:
    for name in (
        "DALL·E 3",
        "Adobe Firefly",
        "Midjourney",
        "ComfyUI",
        "GPT-4o",
        "Google Gemini 3",
        "gemini-2.5-flash-image-preview",
        "Adobe Firefly Image 3",
        "AI generated;txt2img;flux",
        "FLUX.1 [dev]",
        "Azure OpenAI DALL-E",
        "NovelAI Diffusion V4 37442FCA",
        "Stable Diffusion web UI Forge 1.2",
        "OpenAI API",
    ):
        assert is_generator(name), name
    for name in ("Adobe Photoshop 25.0", "GIMP 2.10.32", "Adobe Photoshop Lightroom 6.7 (Windows)"):
        assert is_editor(name), name
        assert not is_generator(name), name
    for name in ("Ver.1.10", "HDR+ 1.0.345618096z", "17.5.1", "iPhone 15 Pro", None, ""):
        assert not is_editor(name), name
        assert not is_generator(name), name


def test_exif_of_every_kind_of_file_is_the_same() -> None:
    """Pillow writes it, this reads it."""
    made = Image.Exif()
    made[0x010F], made[0x0110] = "Leica", "M11"
    data = made.tobytes().removeprefix(b"Exif\0\0")
    assert read_exif(data, position=True).texts == {"make": "Leica", "model": "M11"}
    assert struct.unpack("<H", data[2:4]) == (42,) or data[:2] == b"MM"
