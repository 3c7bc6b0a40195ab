"""What can be said about a process of a deployment: every key of its file, with type, range, default and meaning."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from msgspec import Meta, Struct, field, structs

from secureimg.federated import Terms
from secureimg.federated.terms import MAX_OWNERS, MAX_PARAMETERS

__all__ = [
    "EXAMPLES",
    "PARTIES",
    "PORTS",
    "ROLES",
    "STOCK",
    "TOKENS",
    "Address",
    "Aggregation",
    "Config",
    "Dealing",
    "Fingerprint",
    "Limits",
    "Listen",
    "Log",
    "Model",
    "Operations",
    "Owners",
    "Peers",
    "Pins",
    "Role",
    "Stock",
    "Web",
]

Role = Literal["server", "party0", "party1", "dealer"]

ROLES: Final[tuple[Role, ...]] = ("server", "party0", "party1", "dealer")
PARTIES: Final[tuple[Role, ...]] = ("party0", "party1")
_MODELS: Final[tuple[Role, ...]] = ("server", "party0", "party1")

PORTS: Final[dict[str, dict[Role, int]]] = {
    "listen": {"server": 7443, "party0": 7442, "party1": 7441, "dealer": 7440},
    "web": {"server": 8443, "party0": 8442, "party1": 8441},
    "operations": {"server": 9443, "party0": 9442, "party1": 9441, "dealer": 9440},
}
"""Port of each section if none is given."""

EXAMPLES: Final[dict[str, Any]] = {
    "peers.party1": "192.0.2.7:7441",
    "peers.dealer": "192.0.2.8:7440",
    "model.name": "mnist-cnn",
    "model.samples": "samples.npy",
    "model.replace_activations": 2,
    "model.input_range": (0.0, 1.0),
    "model.precision": 0.01,
    "aggregation.parameters": 9_000,
    "aggregation.clip": 1.0,
    "aggregation.owners": 100,
    "aggregation.least": 10,
    "web.certificate": "fullchain.pem",
    "web.key": "privkey.pem",
    "web.other": "https://other-party.example:8443",
}
"""What a key without default looks like."""

TOKENS: Final = "tokens-{role}.toml"
"""The token file of a role if none is named, as `secureimg token new` names it."""

STOCK: Final = (4, 16)
"""Watermarks of party 0's stock if it has a dealer and nothing else is said."""

_SECONDS: Final = 7 * 86_400.0
_MEGABYTES: Final = 1 << 20
_COUNT: Final = 2**53


class Address(str):
    """Where a process listens, as HOST:PORT.

    Raises
    ------
    ValueError
        If the text is anything else.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check the text."""
        host, _, port = text.rpartition(":")
        if not re.fullmatch(r"[^\s:/@]{1,255}|\[[0-9A-Fa-f:.%]{2,80}\]", host) or not _is_port(port):
            raise ValueError("is not HOST:PORT: write it like 192.0.2.7:7441")
        return super().__new__(cls, text)

    @property
    def pair(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.rpartition(":")
        return host.strip("[]"), int(port)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536


class Fingerprint(str):
    """SHA-256 of a certificate: 64 hexadecimal digits in lower case. Colons and capitals are taken off.

    Raises
    ------
    ValueError
        If the text is anything else.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Check the text."""
        digits = text.replace(":", "").lower()
        if not re.fullmatch("[0-9a-f]{64}", digits):
            raise ValueError("is not the SHA-256 fingerprint of a certificate: `secureimg pki check` shows it")
        return super().__new__(cls, digits)


def _key(meaning: str, *roles: Role, **limits: Any) -> Meta:
    """Describe a key; without roles it is every role's."""
    return Meta(description=meaning, extra={"roles": roles or ROLES}, **limits)


Host = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[!-~]+$")]
Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=0, le=_COUNT)]


class _Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A section of the file."""


class Listen(_Section, frozen=True):
    """Where the process listens."""

    host: Annotated[Host, _key("Address to listen on; 0.0.0.0 or :: for all of the machine's.")] = "127.0.0.1"
    port: Annotated[Port, _key("Port to listen on; 0 takes a free one.")] = 0


class Peers(_Section, frozen=True):
    """Where other processes listen."""

    party1: Annotated[Address | None, _key("Where party 1 listens.", "party0")] = None
    dealer: Annotated[Address | None, _key("Where the dealer listens, if one deals.", *PARTIES)] = None


class Pins(_Section, frozen=True):
    """SHA-256 fingerprints of the only certificates accepted for a role; empty: all that the authority signed for it."""

    party0: Annotated[frozenset[Fingerprint], _key("Certificates of party 0.", "party1", "dealer")] = frozenset()
    party1: Annotated[frozenset[Fingerprint], _key("Certificates of party 1.", "party0", "dealer")] = frozenset()
    dealer: Annotated[frozenset[Fingerprint], _key("Certificates of the dealer.", *PARTIES)] = frozenset()
    owners: Annotated[frozenset[Fingerprint], _key("Certificates of owners.", *_MODELS)] = frozenset()
    coordinators: Annotated[
        frozenset[Fingerprint], _key("Certificates of coordinators of training across owners.", *PARTIES)
    ] = frozenset()


class Model(_Section, frozen=True):
    """The model. Equal settings give equal programs, on any machine."""

    name: Annotated[
        str | None, _key("A shipped model, an .onnx file, feature:NAME:HxW, or gallery:DECISION:FILE.", *_MODELS)
    ] = None
    samples: Annotated[Path | None, _key("Typical inputs (N, C, H, W) as .npy, to measure ranges on.", *_MODELS)] = None
    replace_activations: Annotated[
        Annotated[int, Meta(ge=2, le=32)] | None,
        _key("Replace ReLU and the like by polynomials of this degree, fitted on the samples.", *_MODELS),
    ] = None
    input_range: Annotated[
        tuple[float, float] | None, _key("Smallest and largest input value. Public. Default: the model's.", *_MODELS)
    ] = None
    reveal: Annotated[Literal["scores", "label", "top-k"], _key("What the owner learns.", *PARTIES)] = "scores"
    top: Annotated[int, _key('How many places reveal = "top-k" tells.', *PARTIES, ge=1, le=10_000)] = 5
    bounds: Annotated[
        Literal["measured", "proved"],
        _key("Room for 8 times what samples show, or for every possible input.", *PARTIES),
    ] = "measured"
    public_weights: Annotated[
        bool, _key("Both parties know the model, and both name it. No weights are masked: faster.", *PARTIES)
    ] = False
    batch: Annotated[int, _key("Images in one evaluation (a power of two).", "server", ge=1, le=1 << 20)] = 1
    layout: Annotated[
        Literal["slots", "throughput"],
        _key("slots: lowest latency; throughput: one image a slot, for thousands of images.", "server"),
    ] = "slots"
    precision: Annotated[
        Annotated[float, Meta(gt=0, lt=1)] | None,
        _key("Largest acceptable predicted error, relative to the largest output.", "server"),
    ] = None


class Dealing(_Section, frozen=True):
    """Who may make correlated randomness."""

    client_aided: Annotated[bool, _key("Whether an owner may deal for its own images.", *PARTIES)] = False


class Aggregation(_Section, frozen=True):
    """Training across owners: the terms of its rounds, the same in both parties' files."""

    parameters: Annotated[int, _key("Length of an update.", *PARTIES, ge=1, le=MAX_PARAMETERS)]
    clip: Annotated[float, _key("Largest L2 norm of an owner's update, enforced on shares.", *PARTIES, gt=0, le=1e12)]
    owners: Annotated[int, _key("Most owners in a round.", *PARTIES, ge=2, le=MAX_OWNERS)]
    least: Annotated[int, _key("The sum of fewer owners is not opened.", *PARTIES, ge=2, le=MAX_OWNERS)]
    noise: Annotated[
        float, _key("Deviation of each party's noise over what one owner can change; 0: none.", *PARTIES, ge=0, le=1e4)
    ] = 0.0
    weighted: Annotated[bool, _key("Whether owners carry weights, whose sum is opened, too.", *PARTIES)] = True
    rounds: Annotated[
        int, _key("Most rounds ever: with noise, the privacy budget; 0: no limit.", *PARTIES, ge=0, le=1 << 20)
    ] = 0

    def terms(self) -> Terms:
        """Return the terms. Raises `ParameterError` if they do not fit each other."""
        return Terms(**structs.asdict(self))


class Stock(_Section, frozen=True):
    """Correlations for one image, made ahead by the dealer; none without one."""

    low: Annotated[int, _key("When fewer than this many are left, more are made ...", "party0", ge=0, le=10_000)] = 0
    high: Annotated[int, _key("... until there are this many. 0: none are made ahead.", "party0", ge=0, le=10_000)] = 0


class Limits(_Section, frozen=True):
    """What the process grants to all together."""

    connections: Annotated[int, _key("Open connections.", *_MODELS, ge=1, le=65_536)] = 64
    queue: Annotated[int, _key("Evaluations that may wait.", "server", ge=0, le=10_000)] = 8
    patience: Annotated[
        float, _key("Seconds that the other party may be silent in a session.", *PARTIES, ge=0.1, le=_SECONDS)
    ] = 30.0
    idle: Annotated[float, _key("Seconds between two requests on a connection.", ge=0.1, le=_SECONDS)] = 600.0
    drain: Annotated[float, _key("Seconds for work under way when the process stops.", *_MODELS, ge=0, le=_SECONDS)] = (
        30.0
    )
    key_memory_mb: Annotated[
        int,
        _key(
            "Memory for all evaluation keys, MB; as much again for those that are in use.",
            "server",
            ge=1,
            le=_MEGABYTES,
        ),
    ] = 8192
    owner_key_memory_mb: Annotated[
        int, _key("Memory for one owner's evaluation keys, MB.", "server", ge=1, le=_MEGABYTES)
    ] = 2048
    workers: Annotated[int, _key("Processes to evaluate with; 0: one a core.", "server", ge=0, le=1024)] = 0


class Owners(_Section, frozen=True):
    """What one owner, that is one certificate or token, may ask for."""

    requests_per_minute: Annotated[
        float, _key("Requests on average; as many may come at once after a pause.", *_MODELS, gt=0, le=1e9)
    ] = 600.0
    images_per_request: Annotated[int, _key("Images in one request.", *_MODELS, ge=1, le=1 << 20)] = 64
    sessions: Annotated[
        int, _key("Sessions at a time; one that broke counts until it is noticed.", *_MODELS, ge=1, le=65_536)
    ] = 16
    releases: Annotated[
        Count, _key("Images answered in all, ever; 0: no limit. Enough answers give a model away.", *_MODELS)
    ] = 0


class Web(_Section, frozen=True):
    """The page and the HTTPS interface for owners without a certificate. Without this section there is none."""

    host: Annotated[Host, _key("Address to listen on.", *_MODELS)] = "127.0.0.1"
    port: Annotated[Port, _key("Port to listen on; 0 takes a free one.", *_MODELS)] = 0
    certificate: Annotated[
        Path | None,
        _key("Certificate chain that browsers trust (PEM). Default: the identity's own, which they do not.", *_MODELS),
    ] = None
    key: Annotated[Path | None, _key("Its private key (PEM).", *_MODELS)] = None
    tokens: Annotated[Path, _key("Owners' tokens, from `secureimg token`.", *_MODELS)] = Path("tokens.toml")
    other: Annotated[
        Annotated[str, Meta(max_length=2000, pattern=r"^https://[!-~]+$")] | None,
        _key("Address of the other party's web interface, for the page.", *PARTIES),
    ] = None


class Operations(_Section, frozen=True):
    """Metrics and health over HTTPS, for certificates of the role operator. Without this section there are none."""

    host: Annotated[Host, _key("Address to listen on.")] = "127.0.0.1"
    port: Annotated[Port, _key("Port to listen on; 0 takes a free one.")] = 0


class Log(_Section, frozen=True):
    """Log lines on stderr."""

    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], _key("From which level on.")] = "INFO"
    format: Annotated[Literal["text", "json"], _key("text for people, json (an object a line) for machines.")] = "text"


class Config(_Section, frozen=True):
    """One process of a deployment. Paths are absolute once it is loaded; what is None or absent was not said.

    Attributes
    ----------
    role : str
        "server" (CKKS), "party0", "party1", or "dealer".
    identity, state : Path
        Its certificate's bundle, and its directory.
    """

    role: Annotated[Role, _key("What this process is: server (CKKS), party0, party1 or dealer.")]
    identity: Annotated[Path, _key("Private key, certificate and authority's certificate, from `secureimg pki issue`.")]
    state: Annotated[
        Path, _key("Directory (0700) of what outlives a restart: correlations, releases counted, audit log.")
    ] = Path("state")
    listen: Listen = field(default_factory=Listen)
    peers: Peers = field(default_factory=Peers)
    pins: Pins = field(default_factory=Pins)
    model: Model = field(default_factory=Model)
    dealing: Dealing = field(default_factory=Dealing)
    stock: Stock = field(default_factory=Stock)
    aggregation: Aggregation | None = None
    limits: Limits = field(default_factory=Limits)
    owners: Owners = field(default_factory=Owners)
    web: Web | None = None
    operations: Operations | None = None
    log: Log = field(default_factory=Log)
