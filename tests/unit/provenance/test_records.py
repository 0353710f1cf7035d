"""Generators' own records, as each program writes them."""

from __future__ import annotations

import json

import pytest

from d3.adapters.provenance.records import Record, read_records
from d3.adapters.provenance.words import is_generator
from d3.domain.provenance import Says, SourceKind
from tests.support.metadata import exif, generated_xmp, reading, xmp_packet

WEB_UI = (
    "a castle, <lora:x:1>\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, "
    "Seed: 1, Size: 512x512, Model hash: 6ce0161689, Model: v1-5-pruned, Version: v1.9.4"
)
GRAPH = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a castle", "clip": ["4", 1]}},
    "7": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0]}},
}
DRAWN = {
    "nodes": [
        {"id": 4, "type": "UNETLoader", "widgets_values": ["flux1-dev.safetensors", "default"]},
        {"id": 6, "type": "CLIPTextEncode", "widgets_values": ["a castle"]},
        {"id": 8, "type": "VAEDecode", "widgets_values": None},
        "no node",
    ],
    "links": [],
}
INVOKE = {"model": {"name": "SDXL base"}, "positive_prompt": "a castle"}
OLD_INVOKE = {"model_weights": "sd-1.5", "image": {"prompt": [{"prompt": "a castle"}]}}
RECORDS: dict[str, tuple[dict[str, str], Record]] = {
    "web UI": (
        {"parameters": WEB_UI},
        Record("Stable Diffusion web UI", "v1-5-pruned", "a castle, <lora:x:1>"),
    ),
    "web UI in Exif": (
        {"exif:comment": WEB_UI},
        Record("Stable Diffusion web UI", "v1-5-pruned", "a castle, <lora:x:1>"),
    ),
    "web UI without a prompt": (
        {"parameters": "Steps: 20, Sampler: Euler, Model: x"},
        Record("Stable Diffusion web UI", "x", ""),
    ),
    "ComfyUI that writes like it": (
        {"parameters": "a\nSteps: 20, Sampler: Euler, Model: x, Version: ComfyUI"},
        Record("ComfyUI", "x", "a"),
    ),
    "SwarmUI": (
        {"parameters": json.dumps({"sui_image_params": {"model": "m", "prompt": "a castle"}})},
        Record("SwarmUI", "m", "a castle"),
    ),
    "Fooocus": (
        {
            "fooocus_scheme": "fooocus",
            "parameters": json.dumps({"base_model": "jugger", "prompt": "a castle"}),
        },
        Record("Fooocus", "jugger", "a castle"),
    ),
    "ComfyUI": (
        {"prompt": json.dumps(GRAPH), "workflow": json.dumps(DRAWN)},
        Record("ComfyUI", "sdxl.safetensors", "a castle"),
    ),
    "ComfyUI's drawing alone": (
        {"workflow": json.dumps(DRAWN)},
        Record("ComfyUI", "flux1-dev.safetensors", "a castle"),
    ),
    "ComfyUI in WebP": (
        {"exif:model": "prompt:" + json.dumps(GRAPH), "exif:make": "workflow:{}"},
        Record("ComfyUI", "sdxl.safetensors", "a castle"),
    ),
    "InvokeAI": (
        {"invokeai_metadata": json.dumps(INVOKE)},
        Record("InvokeAI", "SDXL base", "a castle"),
    ),
    "InvokeAI's graph alone": ({"invokeai_graph": "{}"}, Record("InvokeAI")),
    "old InvokeAI": (
        {"sd-metadata": json.dumps(OLD_INVOKE)},
        Record("InvokeAI", "sd-1.5", "a castle"),
    ),
    "older InvokeAI": (
        {"Dream": '"a castle" -s 50 -S 1 -W 512 -H 512 -C 7.5 -A k_lms'},
        Record("InvokeAI", None, "a castle"),
    ),
    "NovelAI": (
        {"Software": "NovelAI", "Source": "NovelAI Diffusion V4", "Description": "a castle"},
        Record("NovelAI", "NovelAI Diffusion V4", "a castle"),
    ),
    "Midjourney": (
        {"Description": "a castle --v 6 Job ID: 01234567-89ab-cdef-0123-456789abcdef"},
        Record("Midjourney", None, "a castle --v 6"),
    ),
    "Midjourney in Exif": (
        {"exif:description": "a castle --ar 1:2 Job ID: 01234567-89ab-cdef-0123-456789abcdef"},
        Record("Midjourney", None, "a castle --ar 1:2"),
    ),
    "Google": ({"xmp:credit": "Made with Google AI"}, Record("Google AI")),
    "Google, edited": ({"iptc:credit": "Edited with Google AI"}, Record("Google AI")),
    "OpenAI": ({"exif:software": "OpenAI DALL·E 3"}, Record("OpenAI DALL·E 3")),
    "FLUX": (
        {
            "exif:software": "AI generated;txt2img;flux",
            "exif:make": "Black Forest Labs",
            "exif:model": "flux-dev",
        },
        Record("AI generated;txt2img;flux", "flux-dev"),
    ),
}


def records(texts: dict[str, str]) -> list[Record]:
    return read_records({name: [text] for name, text in texts.items()})


@pytest.mark.parametrize("name", RECORDS)
def test_a_generators_record_is_read(name: str) -> None:
    texts, record = RECORDS[name]
    found = records(texts)
    assert record in found
    assert len({one.generator for one in found}) == len(found)


@pytest.mark.parametrize(
    "texts",
    [
        {},
        {"parameters": "my parameters"},
        {"Description": "a holiday in Steps: 2"},
        {"prompt": "what do you see?"},
        {"prompt": "[1]", "workflow": "{}"},
        {"workflow": '{"nodes": 7, "links": 7}'},
        {"Software": "GIMP 2.10", "Source": "Canon EOS 7D", "Title": "Midsummer"},
        {
            "Title": "Gemini IV",
            "exif:make": "Firefly",
            "exif:model": "8S",
            "Software": "Imagenomic",
        },
        {"Source": "Stable Diffusion, a film"},
        {"Dream": "I had a dream", "sd-metadata": "of a sheep"},
        {"Description": "Print. Job ID: 01234567-89ab-cdef-0123-456789abcdef"},
        {"exif:comment": "Steps: 12, 000 today"},
        {"Credit": "Not made with Google AI"},
        {"exif:make": "Canon", "exif:model": "Canon EOS 7D", "exif:software": "Ver.1.10"},
        {"exif:comment": "{}", "Comment": "Created with GIMP"},
        {"parameters": "[" * 100_000},
        {"prompt": '{"a":' * 50_000},
        {"parameters": '{"sui_image_params": 7, "base": 1e999}'},
        {"workflow": "{" + "9" * 100_000 + "}"},
    ],
)
def test_what_is_no_record_is_none(texts: dict[str, str]) -> None:
    assert records(texts) == []


INNOCENT = (
    "Gemini North telescope",
    "Gemini 8.1",
    "GeminiCam",
    "A photograph of the GROK tower",
    "Grok 1.0",
    "Grokking Simplicity",
    "Sony recraft",
    "Recraft",
    "Lens Diffusers HDR",
    "Diffusers 2.0",
    "Firefly 3",
    "Firefly lens 2",
    "FLUX",
    "f.lux 4",
    "Imagen 2.0",
    "Imagenomic Portraiture",
    "ImageFX 4.5",
    "Ideogram 3",
    "Not made with Google AI",
    "No AI generated parts",
    "Unlike Midjourney",
    "Midjourneyman 2",
    "Before Stable Diffusion: a film",
    "Meta Airport",
    "OpenAir 3",
    "Ver.1.10",
)
FREE_TEXT = ("Title", "Description", "Comment", "Source", "Author", "exif:description", "Credit")
FREE_TEXT += ("exif:comment", "exif:artist", "xmp:description", "xmp:credit", "iptc:credit")
PROGRAMS = ("Software", "exif:software", "exif:make", "xmp:software")


@pytest.mark.parametrize("text", INNOCENT)
def test_an_innocent_text_is_no_generator(text: str) -> None:
    for field in (*FREE_TEXT, *PROGRAMS):
        assert records({field: text}) == [], field


@pytest.mark.parametrize("text", ["Midjourney", "Stable Diffusion XL 1.0", "ComfyUI", "OpenAI"])
def test_a_generator_that_is_talked_of_made_nothing(text: str) -> None:
    for field in FREE_TEXT:
        assert records({field: text}) == [], field
    for field in PROGRAMS:
        assert [one.generator for one in records({field: text})] == [text], field


def test_a_long_name_takes_no_time() -> None:
    assert not is_generator("Midjourney" + " - / flux-pro" * 4_000 + "!")
    assert not is_generator("Midjourney" + " " * 100_000 + "!")


def test_the_cameras_model_is_not_the_generators() -> None:
    found = reading(exif=exif(make="Canon", model="EOS R5", software="Adobe Firefly"))
    record, camera = found.sources
    assert (found.says, record.generator, record.model) == (Says.GENERATED, "Adobe Firefly", None)
    assert camera.camera == "Canon EOS R5"


LOAD, SAVE = ({"class_type": kind, "inputs": {}} for kind in ("LoadImage", "SaveImage"))


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        ({"1": LOAD, "2": SAVE}, Says.NOTHING),
        ({"1": LOAD, "2": {"class_type": "ImageScale", "inputs": {}}, "3": SAVE}, Says.EDITED),
        (
            {
                "1": LOAD,
                "2": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": "4x.pth"}},
                "3": {"class_type": "ImageUpscaleWithModel", "inputs": {}},
            },
            Says.EDITED,
        ),
        ({"1": LOAD, "2": {"class_type": "KSampler", "inputs": {}}}, Says.GENERATED),
        ({"1": {"class_type": "X", "inputs": {"unet_name": "f"}}, "2": SAVE}, Says.GENERATED),
        ({"1": {"class_type": "OpenAIGPTImage1", "inputs": {}}, "2": SAVE}, Says.GENERATED),
        ({"1": {"class_type": "FluxProUltraImageNode"}, "2": SAVE}, Says.GENERATED),
        ({"nodes": [{"type": "LoadImage"}, {"type": "SaveImage"}], "links": []}, Says.NOTHING),
        (
            {
                "nodes": [{"type": "LoadImage"}, {"type": "KSampler", "mode": 4}, {"type": "Note"}],
                "links": [],
            },
            Says.NOTHING,
        ),
        ({"nodes": [{"type": "KSampler", "mode": 0}], "links": []}, Says.GENERATED),
        ({str(n): LOAD for n in range(9_999)} | {"x": {"class_type": "KSampler"}}, Says.GENERATED),
    ],
)
def test_a_graph_says_what_its_nodes_do(graph: dict[str, object], says: Says) -> None:
    text = json.dumps(graph)
    found = reading(texts=[(b"tEXt", b"prompt\0" + text.encode())])
    assert [(one.generator, one.says) for one in found.sources] == [("ComfyUI", says)]


def test_what_ran_counts_before_what_was_drawn() -> None:
    texts = {"prompt": json.dumps({"1": LOAD, "2": SAVE}), "workflow": json.dumps(DRAWN)}
    assert [one.says for one in records(texts)] == [Says.NOTHING]


@pytest.mark.parametrize("keyword", ["prompt", "workflow", "parameters", "invokeai_metadata"])
@pytest.mark.parametrize(
    "value",
    [
        {"1": {"class_type": "X", "inputs": 7}},
        {"1": {"class_type": ["X"]}, "2": 7},
        {"nodes": [{"type": 7}, {"type": "X", "widgets_values": {"a": 1}}], "links": None},
        {"model": 7, "positive_prompt": ["a"]},
        {"sui_image_params": {"model": {}, "prompt": 1}},
    ],
)
def test_records_of_the_wrong_kinds_break_nothing(keyword: str, value: object) -> None:
    for one in records({keyword: json.dumps(value)}):
        assert one.prompt == ""


def test_a_workflow_of_thousands_of_nodes_is_read() -> None:
    nodes = {str(n): {"class_type": "CLIPTextEncode", "inputs": {"text": "x"}} for n in range(9999)}
    assert records({"prompt": json.dumps(nodes)})[0].generator == "ComfyUI"


def test_the_prompt_is_told_of_and_not_told() -> None:
    found = reading(exif=exif(comment=b"UNICODE\0" + WEB_UI.encode("utf-16-le")))
    (source,) = found.sources
    assert (source.kind, source.prompt, found.says) == (SourceKind.RECORD, True, Says.GENERATED)
    assert "castle" not in found.to_json()


def test_a_generator_in_the_cameras_place_is_no_camera() -> None:
    found = reading(exif=exif(make="Black Forest Labs", model="flux-dev", software="AI generated"))
    assert found.says is Says.GENERATED
    assert all(source.camera is None for source in found.sources)


def test_googles_mark_and_source_type_are_two_statements() -> None:
    packet = generated_xmp()
    credit = xmp_packet(attributes='photoshop:Credit="Made with Google AI"')
    found = reading(xmp=[packet, credit])
    assert [one.kind for one in found.sources] == [SourceKind.IPTC, SourceKind.RECORD]
