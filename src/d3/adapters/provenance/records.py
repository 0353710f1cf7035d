"""Generators' own records: what each program writes beside the pictures it makes.

Read with the reader's own few lines: the libraries for these decode the picture, read some of the
formats only, and follow what strangers wrote as far as it leads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from d3.adapters.provenance.words import is_generator, line
from d3.domain.provenance import Says

Texts = Mapping[str, Iterable[str]]
"""By PNG's keywords; those of Exif, XMP and IPTC as ``exif:comment`` and so on."""

_STEPS = re.compile(
    r"(?:^|\n)\s*Steps: \d+, (?=(?:[^\n]*, )?(?:Sampler|CFG scale|Seed|Model|Size): )"
)
_SETTING = re.compile(r"(?:^|[,\n]\s*)(Model|Version): ([^,\n]{1,200})")
_DREAM = re.compile(r'\s*"(.*)"(?: -\w \S+)+\s*', re.DOTALL)
_JOB = re.compile(r"(.* --[a-z].*)\bJob ID: [0-9a-f]{8}-[0-9a-f-]{27}\s*", re.DOTALL)
"""A prompt with one of Midjourney's options, and the job; agencies number their jobs as well."""

_GOOGLE = re.compile(r"(?:made|edited|created) with google ai\.?", re.IGNORECASE)
_NEGATIVE = "Negative prompt:"
_MODEL_KEYS = ("ckpt_name", "unet_name", "model_name", "base_ckpt_name", "gguf_name", "model")
_PROMPT_KEYS = ("text", "prompt", "positive", "text_g", "text_l", "t5xxl", "clip_l", "string")
_ENCODERS = re.compile(r"textencode|prompt|generat", re.IGNORECASE)
_GENERATING = re.compile(
    r"(?<!re)sampler|checkpoint|unet|diffusion(?!.*upscal)|dalle|gptimage|ideogramv|seedream|stableimage|"
    r"text_?to_?image|txt2img|(?:bytedance|flux|gemini|grok|luma|runway)\w*imagenode",
    re.IGNORECASE,
)
_MODEL_LOADER = re.compile(r"^(?!.*(?:clip|image|upscale|vae)).*loader", re.IGNORECASE)
_GENERATING_KEYS = frozenset({"ckpt_name", "unet_name", "base_ckpt_name", "gguf_name"})
_PASSING = re.compile(
    r"(?:load|save|preview)image\w*|primitive\w*|reroute|(?:markdown)?note", re.IGNORECASE
)
"""Nodes after which a picture shows what it showed."""

_NOT_RUN = frozenset({2, 4})
"""Modes of a drawn node: muted, and passed by."""


class Record(NamedTuple):
    """What one record says.

    Attributes:
        generator: the program, by its usual name.
        model: as the program calls it.
        prompt: its text; empty where there is none.
        says: what the program did.
    """

    generator: str
    model: str | None = None
    prompt: str = ""
    says: Says = Says.GENERATED


def read_records(texts: Texts) -> list[Record]:
    """The records in a file's texts."""
    found: dict[str, Record] = {}
    for reader in _READERS:
        record = reader(texts)
        if record is not None:
            found.setdefault(record.generator, record)
    return list(found.values())


def _web_ui(texts: Texts) -> Record | None:
    """``parameters``: prompt, negative prompt and a line of settings, or JSON."""
    for text in _of(texts, "parameters", "exif:comment", "generation_data"):
        if text.lstrip()[:1] == "{":
            record = _json_parameters(text, fooocus="fooocus_scheme" in texts)
            if record is not None:
                return record
        steps = _STEPS.search(text)
        if steps is not None:
            settings = dict(_SETTING.findall(text[steps.start() :]))
            version = settings.get("Version", "")
            generator = next(
                (name for name in ("ComfyUI", "Fooocus", "InvokeAI") if name in version),
                "Stable Diffusion web UI",
            )
            prompt = text[: steps.start()].partition(_NEGATIVE)[0].strip()
            return Record(generator, line(settings.get("Model", "")), prompt)
    return None


def _json_parameters(text: str, *, fooocus: bool) -> Record | None:
    content = _parsed(text)
    inner = content.get("sui_image_params")
    if isinstance(inner, dict):
        return Record("SwarmUI", _word(inner.get("model")), _prose(inner.get("prompt")))
    if fooocus or "base_model" in content:
        return Record("Fooocus", _word(content.get("base_model")), _prose(content.get("prompt")))
    return None


def _comfyui(texts: Texts) -> Record | None:
    """``prompt`` (the graph that ran) and ``workflow`` (as it is drawn); in WebP within Exif."""
    graphs: list[dict[str, Any]] = []
    for text in _of(
        *(texts, "prompt", "workflow"),
        *("exif:make", "exif:model", "exif:description", "exif:comment", "exif:document"),
    ):
        label, _, rest = text[:32].partition("{")
        if label.strip().casefold() in {"", "prompt:", "workflow:"} and rest:
            graphs.append(_parsed(text[text.index("{") :]))
    # What ran, or else what was drawn.
    nodes = [one for graph in graphs for one in _ran(graph)]
    nodes = nodes or [one for graph in graphs for one in _drawn(graph)]
    if not nodes:
        return None
    model = next(
        filter(None, (_word(node.get(key)) for _, node in nodes for key in _MODEL_KEYS)), None
    )
    prompts = [
        text
        for kind, node in nodes
        if _ENCODERS.search(kind)
        for text in (_prose(node.get(key)) for key in _PROMPT_KEYS)
        if text
    ]
    return Record("ComfyUI", model, "\n".join(dict.fromkeys(prompts)), _done(nodes))


def _done(nodes: list[tuple[str, dict[str, Any]]]) -> Says:
    """What these nodes do to a picture; one that nobody knows changes it, for all one can say."""
    if any(_GENERATING.search(kind) or _GENERATING_KEYS & node.keys() for kind, node in nodes):
        return Says.GENERATED
    if all(_PASSING.fullmatch(kind) for kind, _ in nodes):
        return Says.NOTHING
    return Says.EDITED


def _ran(graph: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Kind and inputs of each node of a graph that ran."""
    for node in graph.values():
        if isinstance(node, dict) and isinstance(node.get("class_type"), str):
            inputs = node.get("inputs")
            yield node["class_type"], inputs if isinstance(inputs, dict) else {}


def _drawn(graph: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Kind and first value of each node of a drawing, which does not say the values' names."""
    nodes = graph.get("nodes")
    for node in nodes if isinstance(nodes, list) and "links" in graph else ():
        if not isinstance(node, dict) or not isinstance(node.get("type"), str):
            continue
        kind, mode, values = node["type"], node.get("mode"), node.get("widgets_values")
        if isinstance(mode, int) and mode in _NOT_RUN:
            continue
        first = values[0] if isinstance(values, list) and values else None
        yield kind, {"model" if _MODEL_LOADER.search(kind) else "text": first}


def _invokeai(texts: Texts) -> Record | None:
    for text in _of(texts, "invokeai_metadata"):
        content = _parsed(text)
        model = content.get("model")
        if isinstance(model, dict):
            model = model.get("name") or model.get("model_name")
        return Record("InvokeAI", _word(model), _prose(content.get("positive_prompt")))
    for text in _of(texts, "sd-metadata"):
        content = _parsed(text)
        if not content:
            continue
        image = content.get("image")
        prompt = image.get("prompt") if isinstance(image, dict) else None
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], dict):
            prompt = prompt[0].get("prompt")
        return Record("InvokeAI", _word(content.get("model_weights")), _prose(prompt))
    for text in _of(texts, "Dream", "dream"):
        dream = _DREAM.fullmatch(text)
        if dream is not None:
            return Record("InvokeAI", None, dream[1])
    if any(_of(texts, "invokeai_graph", "invokeai_workflow")):
        return Record("InvokeAI")
    return None


def _novelai(texts: Texts) -> Record | None:
    if all(one.strip() != "NovelAI" for one in _of(texts, "Software")):
        return None
    source, description, comment = (
        next(iter(_of(texts, name)), "") for name in ("Source", "Description", "Comment")
    )
    prompt = description or _parsed(comment).get("prompt")
    return Record("NovelAI", line(source), _prose(prompt))


def _midjourney(texts: Texts) -> Record | None:
    for text in _of(texts, "Description", "exif:description", "xmp:description"):
        job = _JOB.fullmatch(text)
        if job is not None:
            return Record("Midjourney", None, job[1].strip())
    return None


def _google(texts: Texts) -> Record | None:
    lines = _of(texts, "Credit", "iptc:credit", "xmp:credit")
    return Record("Google AI") if any(_GOOGLE.fullmatch(one.strip()) for one in lines) else None


def _named(texts: Texts) -> Record | None:
    """A generator that names itself as the program or, as some do, as the camera."""
    for text in _of(
        *(texts, "Software", "exif:software", "exif:make", "xmp:software", "xmp:generator")
    ):
        name = line(text)
        if is_generator(name) and name is not None:
            made_it = any(is_generator(line(one)) for one in _of(texts, "exif:make"))
            model = line(next(iter(_of(texts, "exif:model")), "")) if made_it else None
            return Record(name, model if model != name else None)
    return None


_READERS: tuple[Callable[[Texts], Record | None], ...] = (
    _web_ui,
    _comfyui,
    _invokeai,
    _novelai,
    _midjourney,
    _google,
    _named,
)


def _of(texts: Texts, *names: str) -> Iterable[str]:
    return [text for name in names for text in texts.get(name, ()) if text]


def _parsed(text: str) -> dict[str, Any]:
    """A JSON object; of anything else an empty one."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _word(value: object) -> str | None:
    return line(value) if isinstance(value, str) else None


def _prose(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
