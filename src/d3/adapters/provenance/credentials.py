"""Content Credentials (C2PA): a signed record of who made a file, with what, and from what.

The library is 23 MB of native code: it is loaded for the first file that holds a manifest, and
never for another. It fetches nothing, neither manifests that lie elsewhere nor revocations.
"""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from d3.adapters.provenance.source_types import says, source_type
from d3.adapters.provenance.words import is_generator, line
from d3.domain.provenance import Says, Source, SourceKind, State, weightiest

if TYPE_CHECKING:
    import c2pa

_MIME = {
    "AVIF": "image/avif",
    "GIF": "image/gif",
    "HEIF": "image/heif",
    "JPEG": "image/jpeg",
    "JXL": "image/jxl",
    "PNG": "image/png",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
}
_MAX_JSON = 4_000_000
_MAX_NAMES, _MAX_NAME = 8, 60
_UNCHANGED = frozenset(
    {
        "c2pa.converted",
        "c2pa.created",
        "c2pa.edited.metadata",
        "c2pa.opened",
        "c2pa.published",
        "c2pa.repackaged",
        "c2pa.resized.proportional",
        "c2pa.transcoded",
        "c2pa.watermarked",
        "c2pa.watermarked.bound",
        "c2pa.watermarked.unbound",
    }
)
"""Actions after which a picture still shows what it showed."""

_UNTRUSTED = "signingCredential.untrusted"
_CHANGED = (
    "assertion.dataHash.mismatch",
    "assertion.bmffHash.mismatch",
    "assertion.boxesHash.mismatch",
    "assertion.multiAssetHash.mismatch",
)
_REASONS = {
    **dict.fromkeys(_CHANGED, "The file was changed after it was signed"),
    "assertion.hashedURI.mismatch": "A part of the manifest was changed after it was signed",
    "assertion.missing": "A part of the manifest is missing",
    "claimSignature.mismatch": "The signature does not match",
    "claimSignature.missing": "The signature is missing",
    "signingCredential.expired": "The signer's certificate was not valid when it signed",
    "signingCredential.revoked": "The signer's certificate was withdrawn",
    "signingCredential.invalid": "The signer's certificate does not follow the rules",
}


@dataclass(frozen=True, slots=True)
class CredentialsReader:
    """Reads and checks manifests.

    Attributes:
        trust: certificates of those who are trusted to certify signers, in PEM; empty for nobody.
    """

    trust: str = ""
    _loaded: list[c2pa.Context] = field(default_factory=list, init=False, repr=False)

    def read(self, kind: str, data: bytes) -> Source | None:
        """What the manifest in this file says; None where what looked like one is something else.

        Args:
            kind: the file's format.
            data: the file, which the walk over its skeleton has found to hold a manifest.
        """
        try:
            import c2pa

            text = self._json(kind, data)
        except c2pa.C2paError.ManifestNotFound:
            return None
        except c2pa.C2paError as error:
            if self.trust:
                return self._without_trust(kind, data)
            words = line(str(error).partition(":")[2] or str(error))
            return _source(State.INVALID, f"The manifest cannot be read ({words}).")
        if len(text) > _MAX_JSON:
            return _source(State.INVALID, "The manifest is too large to be read.")
        try:
            return _described(json.loads(text))
        except (TypeError, KeyError, AttributeError, ValueError, RecursionError):
            return _source(State.INVALID, "The manifest makes no sense.")

    def _without_trust(self, kind: str, data: bytes) -> Source | None:
        """What the manifest says to somebody who trusts nobody.

        A certificate that the library cannot use is no fault of the picture.
        """
        found = CredentialsReader().read(kind, data)
        if found is None or found.state is State.INVALID:
            return found
        return replace(found, reason="The certificates in D3_C2PA_TRUST cannot be used.")

    def _json(self, kind: str, data: bytes) -> str:
        import c2pa

        if not self._loaded:
            settings: dict[str, Any] = {
                "verify": {
                    "ocsp_fetch": False,
                    "remote_manifest_fetch": False,
                    "verify_trust": True,
                }
            }
            if self.trust:
                settings["trust"] = {"trust_anchors": self.trust}
            self._loaded.append(c2pa.Context.from_dict(settings))
        with c2pa.Reader(_MIME.get(kind), io.BytesIO(data), context=self._loaded[0]) as reader:
            text: str = reader.json()
            return text


def elsewhere(address: str) -> Source:
    """A manifest that the file only names."""
    from urllib.parse import urlsplit

    host = None
    with suppress(ValueError):
        host = line(urlsplit(address).hostname or "")
    return _source(
        State.NONE, f"The manifest lies at {host or 'another address'}. D3 does not fetch it."
    )


def _source(state: State, reason: str) -> Source:
    return Source(kind=SourceKind.C2PA, state=state, reason=reason)


def _described(store: dict[str, Any]) -> Source:
    manifests = store["manifests"]
    active = manifests[store["active_manifest"]]
    state, reason, is_changed = _checked(store)
    speaks = Says.NOTHING
    generators, actions, ingredients, types = [], [], [], []
    for manifest, is_part in _chain(manifests, store["active_manifest"]):
        said = [_action(one) for one in _actions(manifest)]
        generators += [name for one in said for name in one.programs if is_generator(name)]
        actions += [one.name for one in said if not is_part]
        types += [one.source_type for one in said if one.source_type]
        heard = [one.says for one in said]
        if is_part:  # a photograph in a picture makes the picture no photograph
            heard = [one for one in heard if one is Says.GENERATED]
        speaks = weightiest([speaks, *heard])
    for one in active.get("ingredients", [])[:_MAX_NAMES]:
        title, use = (line(str(one.get(key, "")), _MAX_NAME) for key in ("title", "relationship"))
        ingredients.append(f"{title or 'untitled'} ({use or 'unknown'})")
    if state is State.INVALID and speaks is not Says.GENERATED:
        speaks = Says.EDITED if is_changed else Says.NOTHING
    signature = active.get("signature_info") or {}
    said_type = next((one for one in types if says(one) is speaks), next(iter(types), None))
    return Source(
        kind=SourceKind.C2PA,
        says=speaks,
        state=state,
        reason=reason,
        generator=_generator(active),
        model=next(iter(generators), None),
        signer=line(str(signature.get("issuer") or signature.get("common_name") or "")),
        signed_at=line(str(signature.get("time") or "")),
        actions=tuple(dict.fromkeys(actions))[:_MAX_NAMES],
        ingredients=tuple(ingredients),
        digital_source_type=said_type,
    )


def _checked(store: dict[str, Any]) -> tuple[State, str | None, bool]:
    """The state, why it is not valid, and whether the file was changed after it was signed."""
    codes = [str(one.get("code")) for one in store.get("validation_status") or ()]
    word = store.get("validation_state")
    if word == "Trusted":
        return State.VALID, None, False
    if word == "Valid" and all(one == _UNTRUSTED for one in codes):
        return State.UNTRUSTED, "No certificate in D3_C2PA_TRUST vouches for the signer.", False
    if word == "Valid":
        return State.UNTRUSTED, _reason(codes), False
    faults = [one for one in codes if one != _UNTRUSTED]
    known = sorted(faults, key=lambda one: one not in _CHANGED)
    return State.INVALID, _reason(known), any(one in _CHANGED for one in faults)


def _reason(codes: list[str]) -> str:
    code = line(next(iter(codes), "")) or "unknown"
    return f"{_REASONS.get(code, 'The manifest does not hold')} ({code})."


def _chain(manifests: dict[str, Any], active: str) -> Iterator[tuple[dict[str, Any], bool]]:
    """The active manifest and those of what the file was made from; whether each is of a part."""
    waiting: deque[tuple[str, bool]] = deque([(active, False)])
    seen: set[str] = set()
    while waiting:
        label, is_part = waiting.popleft()
        if label in seen or label not in manifests:
            continue
        seen.add(label)
        yield manifests[label], is_part
        for one in manifests[label].get("ingredients", []):
            part = is_part or one.get("relationship") != "parentOf"
            waiting.append((one.get("active_manifest"), part))


def _actions(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for assertion in manifest.get("assertions", []):
        if str(assertion.get("label", "")).startswith("c2pa.actions"):
            yield from assertion["data"].get("actions", [])


@dataclass(frozen=True, slots=True)
class _Action:
    name: str
    source_type: str | None
    programs: tuple[str, ...]
    says: Says


def _action(said: dict[str, Any]) -> _Action:
    name, kind = (
        line(str(said.get("action", "")), _MAX_NAME) or "unknown",
        source_type(said.get("digitalSourceType")),
    )
    agent = said.get("softwareAgent")
    program = line(str(agent.get("name", "") if isinstance(agent, dict) else agent or ""))
    speaks = says(kind)
    if speaks is not Says.GENERATED and name not in _UNCHANGED:
        speaks = Says.EDITED
    elif speaks is Says.NOTHING and name == "c2pa.created" and is_generator(program):
        speaks = Says.GENERATED
    return _Action(name, kind, (program,) if program else (), speaks)


def _generator(manifest: dict[str, Any]) -> str | None:
    """The program that made the claim, with its version."""
    listed = manifest.get("claim_generator_info") or [{}]
    name = " ".join(str(listed[0].get(key, "")) for key in ("name", "version"))
    return line(name) or line(str(manifest.get("claim_generator") or ""))
