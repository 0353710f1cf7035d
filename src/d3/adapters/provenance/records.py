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

_STEPS = re.compile(r"(?:^|\n)\s*Steps: \d+, ")
_SETTING = re.compile(r"(?:^|[,\n]\s*)(Model|Version): ([^,\n]{1,200})")
_JOB = re.compile(r"Job ID: [0-9a-f]{8}-[0-9a-f-]{27}")
_GOOGLE = re.compile(r"(?:made|edited|created) with google ai", re.IGNORECASE)
_NEGATIVE = "Negative prompt:"
_MODEL_KEYS = ("ckpt_name", "unet_name", "model_name", "base_ckpt_name", "gguf_name", "model")
_PROMPT_KEYS = ("text", "prompt", "positive", "text_g", "text_l", "t5xxl", "clip_l", "string")
_ENCODERS = re.compile(r"textencode|prompt|generat", re.IGNORECASE)
_MAX_NODES = 2_000


class Record(NamedTuple):
    """What one record says.

    Attributes:
        generator: the program, by its usual name.
        model: as the program calls it.
        prompt: its text; empty where there is none.
    """

    generator: str
    model: str | None = None
    prompt: str = ""


def read_records(texts: Mapping[str, str]) -> list[Record]:
    """The records in a file's texts.

    Args:
        texts: by PNG's keywords; those of Exif, XMP and IPTC as ``exif:comment`` and so on.
    """
    found: dict[str, Record] = {}
    for reader in _READERS:
        record = reader(texts)
        if record is not None:
            found.setdefault(record.generator, record)
    return list(found.values())


def _web_ui(texts: Mapping[str, str]) -> Record | None:
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


def _comfyui(texts: Mapping[str, str]) -> Record | None:
    """``prompt`` (the graph that ran) and ``workflow`` (as it is drawn); in WebP within Exif."""
    graphs: list[dict[str, Any]] = []
    for text in _of(
        *(texts, "prompt", "workflow"),
        *("exif:make", "exif:model", "exif:description", "exif:comment", "exif:document"),
    ):
        label, _, rest = text[:32].partition("{")
        if label.strip().casefold() in {"", "prompt:", "workflow:"} and rest:
            graphs.append(_parsed(text[text.index("{") :]))
    nodes = [node for graph in graphs for node in _nodes(graph)]
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
    return Record("ComfyUI", model, "\n".join(dict.fromkeys(prompts)))


def _nodes(graph: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Kind and inputs of each node; of a drawn workflow the values without their names."""
    drawn = graph.get("nodes")
    if isinstance(drawn, list) and "links" in graph:
        for node in drawn[:_MAX_NODES]:
            if not isinstance(node, dict) or not isinstance(node.get("type"), str):
                continue
            values = node.get("widgets_values")
            first = values[0] if isinstance(values, list) and values else None
            kind = node["type"]
            key = (
                "ckpt_name"
                if "loader" in kind.casefold() and "clip" not in kind.casefold()
                else "text"
            )
            yield kind, {key: first}
        return
    for node in list(graph.values())[:_MAX_NODES]:
        if isinstance(node, dict) and isinstance(node.get("class_type"), str):
            inputs = node.get("inputs")
            yield node["class_type"], inputs if isinstance(inputs, dict) else {}


def _invokeai(texts: Mapping[str, str]) -> Record | None:
    for text in _of(texts, "invokeai_metadata"):
        content = _parsed(text)
        model = content.get("model")
        if isinstance(model, dict):
            model = model.get("name") or model.get("model_name")
        return Record("InvokeAI", _word(model), _prose(content.get("positive_prompt")))
    for text in _of(texts, "sd-metadata"):
        content = _parsed(text)
        image = content.get("image")
        prompt = image.get("prompt") if isinstance(image, dict) else None
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], dict):
            prompt = prompt[0].get("prompt")
        return Record("InvokeAI", _word(content.get("model_weights")), _prose(prompt))
    for text in _of(texts, "Dream", "dream"):
        return Record("InvokeAI", None, text.partition('"')[2].rpartition('"')[0])
    if any(_of(texts, "invokeai_graph", "invokeai_workflow")):
        return Record("InvokeAI")
    return None


def _novelai(texts: Mapping[str, str]) -> Record | None:
    if texts.get("Software", "").strip() != "NovelAI":
        return None
    prompt = texts.get("Description") or _parsed(texts.get("Comment", "")).get("prompt")
    return Record("NovelAI", line(texts.get("Source", "")), _prose(prompt))


def _midjourney(texts: Mapping[str, str]) -> Record | None:
    for text in _of(texts, "Description", "exif:description", "xmp:description"):
        job = _JOB.search(text)
        if job is not None:
            return Record("Midjourney", None, text[: job.start()].strip())
    return None


def _google(texts: Mapping[str, str]) -> Record | None:
    lines = _of(texts, "Credit", "iptc:credit", "xmp:credit")
    return Record("Google AI") if any(_GOOGLE.search(one) for one in lines) else None


def _named(texts: Mapping[str, str]) -> Record | None:
    """A generator that names itself as the program or, as some do, as the camera."""
    for text in _of(
        *(texts, "Software", "exif:software", "exif:make", "xmp:software", "xmp:generator")
    ):
        name = line(text)
        if is_generator(name) and name is not None:
            model = line(texts.get("exif:model", "")) if "exif:make" in texts else None
            return Record(name, model if model != name else None)
    return None


_READERS: tuple[Callable[[Mapping[str, str]], Record | None], ...] = (
    _web_ui,
    _comfyui,
    _invokeai,
    _novelai,
    _midjourney,
    _google,
    _named,
)


def _of(texts: Mapping[str, str], *names: str) -> Iterable[str]:
    return [texts[name] for name in names if texts.get(name)]


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
