"""A process's file: what it may say, what it means, and what is said about one that is wrong."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from protocols.deployment import Config, ConfigError, load
from protocols.deployment.config import MAX_BYTES, parse
from protocols.deployment.keys import keys_of
from protocols.deployment.model_names import with_files
from protocols.deployment.settings import PORTS, ROLES, Role
from protocols.deployment.template import plain_text, template, toml_value
from secureimg.errors import SecureImgError
from secureimg.federated import Terms

from .conftest import run_cli

FILE = Path("/etc/secureimg/process.toml")

NEEDED: dict[str, dict[str, Any]] = {
    "server": {"identity": "server.pem", "model.name": "mnist-cnn"},
    "party0": {"identity": "party-0.pem", "peers.party1": "192.0.2.7:7441", "peers.dealer": "192.0.2.8:7440"},
    "party1": {"identity": "party-1.pem", "peers.dealer": "192.0.2.8:7440", "model.name": "mnist-cnn"},
    "dealer": {"identity": "dealer.pem"},
}
"""What a role's file cannot do without."""


def read(role: str, **changes: Any) -> Config:
    """The role's smallest file, with changes by dotted key (`__` for the dot); None takes a key out."""
    values = NEEDED[role] | {name.replace("__", "."): value for name, value in changes.items()}
    text = plain_text(role, {name: value for name, value in values.items() if value is not None})  # type: ignore[arg-type]
    return parse(text.encode(), FILE)


def value_at(config: Config, path: str) -> Any:
    value: Any = config
    for word in path.split("."):
        value = getattr(value, word)
    return value


# ---------------------------------------------------------------------------------------------------------- templates


@pytest.mark.parametrize("role", ROLES)
def test_a_template_says_what_holds_without_it(role: Role) -> None:
    """Template -> load equals the smallest file: the template adds nothing but words."""
    assert parse(template(role, NEEDED[role], FILE).encode(), FILE) == read(role)


@pytest.mark.parametrize("role", ROLES)
def test_every_default_that_a_template_shows_is_the_default(role: Role) -> None:
    """With each `#name = value` line made real, the same configuration is read, but for the sections that were off."""
    text = template(role, NEEDED[role], FILE)
    told = re.sub(r"(?m)^#(?=[a-z\[])", "", text)
    told = re.sub(r"(?ms)^\[aggregation\]$.*?(?=^\[)", "", told)  # takes the place of a model
    if role == "party0":
        told = told.replace('reveal = "scores"\n', "").replace("top = 5\n", "").replace('bounds = "measured"\n', "")
        told = told.replace("public_weights = false\n", "")  # party 0 has no model
    config = parse(told.encode(), FILE)
    assert structs.replace(config, web=None, operations=None) == read(role)
    assert config.operations is not None
    assert config.operations.port == PORTS["operations"][role]


@pytest.mark.parametrize("role", ROLES)
def test_a_template_has_every_key_of_its_role(role: Role) -> None:
    text = template(role, NEEDED[role], FILE)
    for key in keys_of(role):
        assert key.meaning in text
        assert re.search(rf"(?m)^(#|# For example: )?{key.name} = ", text), key.path


def test_what_was_given_is_filled_in() -> None:
    given = NEEDED["party1"] | {"limits.idle": 7.5, "web.port": 8000, "pins.owners": ["AB:" * 31 + "CD"]}
    config = parse(template("party1", given, FILE).encode(), FILE)
    assert config.limits.idle == 7.5
    assert config.web is not None
    assert config.web.port == 8000
    assert config.pins.owners == {"ab" * 31 + "cd"}


def test_a_template_that_would_not_load_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"peers\.party1"):
        template("party0", {"identity": "x.pem", "dealing.client_aided": True}, FILE)


def test_the_command_writes_files_that_load(tmp_path: Path) -> None:
    """`config init` fills in what it was given, makes paths relative to the file, and never overwrites one."""
    (tmp_path / "etc").mkdir()
    file = tmp_path / "etc" / "party1.toml"
    words = [
        "config",
        "init",
        "--role",
        "party1",
        "--out",
        file,
        "--model",
        tmp_path / "m.onnx",
        "--dealer",
        "client-aided",
    ]
    words += ["--dealer", "192.0.2.8:7440", "--identity", tmp_path / "party-1.pem", "--set", "owners.releases=100"]
    run_cli(*words)
    config = load(file)
    assert (config.role, config.identity, config.model.name) == (
        "party1", tmp_path / "party-1.pem", str(tmp_path / "m.onnx"),
    )  # fmt: skip
    assert (config.dealing.client_aided, config.peers.dealer, config.owners.releases) == (True, "192.0.2.8:7440", 100)
    assert config.state == file.parent / "party1-state"
    assert "exists already" in run_cli(*words, status=2).stderr
    refused = run_cli("config", "init", "--role", "party0", "--out", tmp_path / "x.toml", status=2).stderr
    assert "peers.party1" in refused
    assert not (tmp_path / "x.toml").exists()


# ------------------------------------------------------------------------------------------------------------- meaning


def test_paths_are_relative_to_the_file() -> None:
    config = read("server", model__name="nets/a.onnx", model__samples="x.npy", model__replace_activations=2)
    assert (config.identity, config.state) == (FILE.parent / "server.pem", FILE.parent / "state")
    assert config.model.samples == FILE.parent / "x.npy"
    assert config.model.name == "/etc/secureimg/nets/a.onnx"
    assert read("server", identity="/keys/server.pem").identity == Path("/keys/server.pem")
    assert read("server", web__port=0).web.tokens == FILE.parent / "tokens-server.toml"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mnist-cnn", "mnist-cnn"),
        ("feature:hog:64x64", "feature:hog:64x64"),
        ("a.onnx", "/d/a.onnx"),
        ("./mnist-cnn", "/d/mnist-cnn"),
        ("/x/a.onnx", "/x/a.onnx"),
        ("gallery:best:g.gal", "gallery:best:/d/g.gal"),
        ("gallery:top-k,threshold=0.5,model=m.onnx:g", "gallery:top-k,threshold=0.5,model=%2Fd%2Fm.onnx:/d/g"),
    ],
)
def test_a_models_files_are_relative_to_the_file_too(name: str, expected: str) -> None:
    assert with_files(name, lambda file: str(Path("/d") / file)) == expected


def test_the_stock_is_on_where_a_dealer_is() -> None:
    """With a dealer party 0 keeps correlations ahead unless it is told not to; the owner's cannot be made ahead."""
    assert (read("party0").stock.low, read("party0").stock.high) == (4, 16)
    assert read("party0", stock__high=0).stock.high == 0
    assert (read("party0", stock__high=2).stock.low, read("party0", stock__low=20).stock.high) == (2, 20)
    assert read("party0", peers__dealer=None, dealing__client_aided=True).stock.high == 0


def test_settings_count_as_if_they_stood_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "dealer.toml"
    file.write_text(plain_text("dealer", NEEDED["dealer"]))
    config = load(file, ["limits.idle=3", 'log.level="DEBUG"', "operations={}"])
    assert (config.limits.idle, config.log.level) == (3.0, "DEBUG")
    assert config.operations is not None
    for text, said in [
        ("limits.idle", "KEY=VALUE"), ("=3", "KEY=VALUE"), ("log.level=DEBUG", "quotes"), ("limits.idle=-1", "limits.idle"),
        ("role.x=1", "no section"), ("limits.idle=1\nrole='server'", "quotes"), ("listen.prot=1", "did you mean port"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError, match=re.escape(said)):
            load(file, [text])


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("role", "changes", "words"),
    [
        ("server", {"listen__prot": 1}, ["listen.prot", "did you mean port", "host, port"]),
        ("server", {"sesions": 1}, ["'sesions'", "not known"]),
        ("server", {"peers__dealer": "a:1"}, ["peers.dealer", "not for role server", "party0, party1"]),
        ("dealer", {"model__name": "mnist-cnn"}, ["model.name", "not for role dealer"]),
        ("dealer", {"listen": 3}, ["listen", "section"]),
        ("server", {"listen__port": 65536}, ["listen.port = 65536", "<= 65535"]),
        ("server", {"listen__port": "7443"}, ["listen.port = '7443'", "a whole number"]),
        ("server", {"listen__host": ""}, ["listen.host"]),
        ("server", {"limits__idle": float("nan")}, ["limits.idle = nan"]),
        ("server", {"limits__idle": float("inf")}, ["limits.idle = inf"]),
        ("server", {"identity": None}, ["identity", "missing", "pki issue"]),
        ("server", {"identity": ""}, ["identity", "not a path"]),
        ("server", {"identity": 3}, ["identity = 3", "text"]),
        ("server", {"model__name": None}, ["model.name", "missing", "mnist-cnn"]),
        ("party1", {"model__name": None}, ["model.name", "missing"]),
        ("party1", {"model__reveal": "lable"}, ["model.reveal = 'lable'", "scores, label, top-k"]),
        ("party0", {"peers__party1": None}, ["peers.party1", "missing"]),
        ("party0", {"peers__party1": "nowhere"}, ["peers.party1 = 'nowhere'", "HOST:PORT"]),
        ("party0", {"peers__party1": "a:0"}, ["HOST:PORT"]),
        ("party0", {"peers__dealer": None}, ["nobody deals", "dealing.client_aided", "peers.dealer", "collude"]),
        ("party1", {"peers__dealer": None}, ["nobody deals"]),
        ("party0", {"model__name": "mnist-cnn"}, ["party 0 learns neither", "public_weights"]),
        ("party0", {"model__public_weights": True}, ["say model.name"]),
        ("party0", {"stock__low": 9, "stock__high": 3}, ["stock.low = 9", "stock.high = 3"]),
        ("party0", {"stock__high": 3, "peers__dealer": None, "dealing__client_aided": True}, ["stock.high", "dealer"]),
        ("party0", {"web__port": 1, "peers__dealer": None, "dealing__client_aided": True}, ["web", "browser cannot deal"]),
        ("party1", {"web__certificate": "a.pem"}, ["web.certificate", "web.key"]),
        ("party1", {"web__other": "http://x"}, ["web.other", "http://x"]),
        ("party0", {"pins__party1": ["abc"]}, ["pins.party1", "'abc'", "fingerprint"]),
        ("server", {"model__batch": 3}, ["model.batch = 3", "power of two"]),
        ("server", {"model__input_range": [1.0, 0.0]}, ["model.input_range = [1, 0]"]),
        ("server", {"model__replace_activations": 2}, ["model.samples"]),
        ("server", {"limits__key_memory_mb": 100}, ["owner_key_memory_mb", "key_memory_mb = 100"]),
        ("server", {"log__level": "debug"}, ["log.level = 'debug'", "DEBUG, INFO"]),
    ],
)  # fmt: skip
def test_an_error_names_file_key_value_and_remedy(role: str, changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(role, **changes)
    said = str(caught.value)
    assert said.startswith(f"{FILE}: ")
    assert "\n" not in said
    for word in words:
        assert word in said


@pytest.mark.parametrize("text", ["", "role = 1", "role = 'party2'", "rule = 'server'"])
def test_the_role_is_said(text: str) -> None:
    with pytest.raises(ConfigError, match=r"role.*server, party0, party1, dealer"):
        parse(text.encode(), FILE)


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    """Too large, not text, not TOML, nested without end, a directory, not there: an error each, and quickly."""
    file = tmp_path / "x.toml"
    for data, said in [
        (b"#" * (MAX_BYTES + 1), "larger than"), (b"\xff\xfe", "UTF-8"), (b"role", "not TOML"),
        (b"x=" + b"[" * 9999, "deeply"), (b"x=1" + b"0" * 9999, "not TOML"),
    ]:  # fmt: skip
        file.write_bytes(data)
        with pytest.raises(ConfigError, match=said):
            load(file)
    for path in (tmp_path, tmp_path / "none.toml", Path("/dev/null/x"), Path("a\0b")):
        with pytest.raises(ConfigError, match="config init"):
            load(path)


_SCALARS = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(), st.booleans(), st.text(max_size=20), st.sampled_from(list(ROLES)),
    st.sampled_from(["127.0.0.1:7443", "slots", "scores", "ab" * 32, "https://x"]),
)  # fmt: skip
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
_NAMES = st.sampled_from([key.path for key in keys_of()] + ["listen", "model", "web.web", "nonsense", "log.x"])


@given(st.sampled_from(ROLES), st.dictionaries(_NAMES, _VALUES, max_size=6))
@settings(max_examples=300, deadline=None)
def test_any_file_is_a_configuration_or_one_error(role: Role, values: dict[str, Any]) -> None:
    """Whatever stands in a file, reading it gives a `Config` or one `SecureImgError` of one line."""
    try:
        text = plain_text(role, NEEDED[role] | values)
    except ConfigError:
        return  # text that is not Unicode cannot be written
    try:
        config = parse(text.encode(), FILE)
    except SecureImgError as caught:
        said = str(caught)
        assert 0 < len(said) < 1500
        return
    assert config.role == values.get("role", role)
    assert config.identity.is_absolute()


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_configuration_or_one_error(data: bytes) -> None:
    with pytest.raises(SecureImgError):
        parse(data, FILE)


@given(_VALUES.filter(lambda value: "nan" not in repr(value)))
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read_again(value: Any) -> None:
    """Every value that can be written is the same when TOML reads it: quotes, control characters, large numbers."""
    try:
        text = toml_value(value)
    except ConfigError:
        assert re.search("[\ud800-\udfff]", repr(value)) or "\\ud" in repr(value)
        return
    assert tomllib.loads(f"v = {text}")["v"] == value


AGGREGATION = {
    "aggregation.parameters": 100, "aggregation.clip": 2.0, "aggregation.owners": 10, "aggregation.least": 3,
    "peers.dealer": "192.0.2.8:7440",
}  # fmt: skip


@pytest.mark.parametrize("role", ["party0", "party1"])
def test_a_party_aggregates_instead_of_serving_a_model(role: Role) -> None:
    needed = {key: value for key, value in NEEDED[role].items() if not key.startswith(("model.", "dealing."))}
    config = parse(template(role, needed | AGGREGATION, FILE).encode(), FILE)
    assert config.aggregation is not None
    assert config.aggregation.terms() == Terms(parameters=100, clip=2.0, owners=10, least=3)
    assert config.stock.high == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"aggregation.least": 20}, "2 <= least <= owners"),
        ({"aggregation.noise": 1e4, "aggregation.owners": 4096}, "lower the noise or the number of owners"),
        ({"model.name": "mnist-cnn"}, "remove the section model"),
        ({"dealing.client_aided": True}, "must not deal for the check of its own update"),
    ],
)
def test_what_does_not_go_with_aggregation_is_said(change: dict[str, Any], said: str) -> None:
    needed = {key: value for key, value in NEEDED["party1"].items() if not key.startswith(("model.", "dealing."))}
    with pytest.raises(ConfigError, match=said):
        template("party1", needed | AGGREGATION | change, FILE)


def test_a_missing_key_of_a_section_is_named_whole() -> None:
    text = 'role = "party1"\nidentity = "a.pem"\n[peers]\ndealer = "192.0.2.8:7440"\n[aggregation]\nclip = 1.0\n'
    with pytest.raises(ConfigError, match=r"the key aggregation\.parameters is missing: Length of an update"):
        parse(text.encode(), FILE)
