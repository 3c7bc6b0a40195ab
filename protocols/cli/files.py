"""`secureimg keygen`, `encrypt`, `evaluate`, `decrypt`: the main job in files, for people who move blobs themselves."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from protocols.cli.console import amount, duration, out, write_json
from protocols.cli.inputs import load_inputs
from protocols.cli.options import (
    Batch,
    InputRange,
    Json,
    Layout,
    LayoutOption,
    ModelName,
    ModelOptions,
    Precision,
    Replace,
    Samples,
    Workers,
    cores,
)
from protocols.cli.output_files import check_new, read_blob, save_array, write_new
from protocols.cli.owner_ops import finish
from protocols.cli.passphrases import PassphraseFile, PassphrasePrompt, read_passphrase
from protocols.cli.remote import labels_of
from protocols.preparation import preparation_of
from protocols.program_file import decode_program, encode_program
from secureimg.ckks import EvaluationKeys, Evaluator, OwnerKeys
from secureimg.errors import BlobError, SecureImgError

__all__ = ["decrypt", "encrypt", "evaluate", "keygen"]

_PROGRAM_BYTES = 65 << 20
_KEYS_BYTES = 4 << 30
_CIPHERTEXT_BYTES = 1 << 30

KeyFile = Annotated[Path, typer.Option("--key", metavar="FILE", help="The owner's secret key.")]
ProgramFile = Annotated[Path, typer.Option("--program", metavar="FILE", help="The public program, from keygen.")]
Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write; never over an existing file.")]


def keygen(
    model: ModelName,
    key: Annotated[Path, typer.Option("--out", metavar="FILE", help="The owner's secret key (0600).")] = Path(
        "owner.key"
    ),
    evaluation_keys: Annotated[
        Path, typer.Option("--evaluation-keys", metavar="FILE", help="What the server needs; decrypts nothing.")
    ] = Path("eval.keys"),
    program: Annotated[
        Path, typer.Option("--program", metavar="FILE", help="The public program: packing, parameters, bounds.")
    ] = Path("program.pub"),
    passphrase: PassphrasePrompt = False,
    passphrase_file: PassphraseFile = None,
    batch: Batch = 1,
    layout: LayoutOption = Layout.SLOTS,
    precision: Precision = None,
    samples: Samples = None,
    replace_activations: Replace = None,
    input_range: InputRange = None,
    as_json: Json = False,
) -> None:
    """Make an owner's keys for MODEL. `evaluate` must be given the same options."""
    check_new(key, evaluation_keys, program)
    secret = read_passphrase(passphrase, passphrase_file, confirm=True)
    options = ModelOptions(model, batch, layout, precision, samples, replace_activations, input_range)
    graph = options.load().graph
    compiled, _ = options.compile(graph)
    start = time.perf_counter()
    keys = OwnerKeys.generate(compiled.public)
    blob = keys.evaluation_keys().to_bytes()
    seconds = time.perf_counter() - start
    keys.save(key, secret)
    write_new(evaluation_keys, blob)
    write_new(program, encode_program(graph.name, compiled.public, preparation_of(graph)))
    if as_json:
        write_json(
            {
                "key": str(key),
                "evaluation_keys": str(evaluation_keys),
                "program": str(program),
                "key_id": keys.key_id,
                "fingerprint": compiled.public.fingerprint,
                "seconds": {"keygen": seconds},
                "bytes": {"evaluation_keys": len(blob)},
            }
        )
        return
    out.print(f"{key}: the secret key. Whoever has it can read the pictures: it stays with the owner", soft_wrap=True)
    out.print(f"{evaluation_keys}: {amount(len(blob))} for the server")
    out.print(f"{program}: the public program {compiled.public.fingerprint[:16]}")


def encrypt(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Image files, or one .npy (N, C, H, W).")],
    key: KeyFile,
    program: ProgramFile,
    result: Out,
    passphrase: PassphrasePrompt = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Encrypt pictures, as many as the program takes at a time."""
    check_new(result)
    public, preparation = decode_program(read_blob(program, _PROGRAM_BYTES), str(program))
    given = load_inputs(inputs, public.input_shape, preparation)
    if len(given.values) > public.batch:
        raise SecureImgError(
            f"{len(given.values)} images, the program takes {public.batch} at a time: make keys with a larger --batch, "
            "or encrypt in several files"
        )
    keys = OwnerKeys.load(key, public, read_passphrase(passphrase, passphrase_file))
    start = time.perf_counter()
    blob = keys.encrypt(given.values)
    seconds = time.perf_counter() - start
    write_new(result, blob)
    if as_json:
        write_json({"out": str(result), "count": len(given.values), "bytes": len(blob), "seconds": seconds})
    else:
        out.print(f"{result}: {len(given.values)} image(s), {amount(len(blob))}, {duration(seconds)}")


def evaluate(
    model: ModelName,
    blob_file: Annotated[Path, typer.Argument(metavar="BLOB", help="An encrypted input.")],
    keys_file: Annotated[Path, typer.Option("--keys", metavar="FILE", help="The evaluation keys.")],
    result: Out,
    batch: Batch = 1,
    layout: LayoutOption = Layout.SLOTS,
    precision: Precision = None,
    samples: Samples = None,
    replace_activations: Replace = None,
    input_range: InputRange = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Run MODEL on an encrypted input. The options must be those of keygen."""
    check_new(result)
    options = ModelOptions(model, batch, layout, precision, samples, replace_activations, input_range)
    program, _ = options.compile(options.load().graph)
    blob = read_blob(blob_file, _CIPHERTEXT_BYTES)
    try:
        keys = EvaluationKeys.from_bytes(read_blob(keys_file, _KEYS_BYTES), program.public)
    except BlobError as error:
        raise BlobError(f"{keys_file}: {error} (evaluate needs the same model and options as keygen)") from None
    with Evaluator(program, workers=workers or cores()) as evaluator:
        start = time.perf_counter()
        answer = evaluator.evaluate(keys, blob)
        seconds = time.perf_counter() - start
    write_new(result, answer)
    if as_json:
        write_json({"out": str(result), "bytes": len(answer), "seconds": seconds})
    else:
        out.print(f"{result}: {amount(len(answer))}, evaluated in {duration(seconds)}")


def decrypt(
    blob_file: Annotated[Path, typer.Argument(metavar="BLOB", help="An encrypted answer.")],
    key: KeyFile,
    program: ProgramFile,
    count: Annotated[int, typer.Option(min=1, help="Images that were encrypted.")] = 1,
    release_bits: Annotated[
        int | None,
        typer.Option(metavar="BITS", help="Round and add noise so that the values may be given to others; budgeted."),
    ] = None,
    result: Annotated[Path | None, typer.Option("--out", metavar="FILE.npy", help="Save the values.")] = None,
    passphrase: PassphrasePrompt = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Decrypt an answer. The values are the owner's: give them to others only with --release-bits."""
    if result is not None:
        check_new(result)
    public, _ = decode_program(read_blob(program, _PROGRAM_BYTES), str(program))
    keys = OwnerKeys.load(key, public, read_passphrase(passphrase, passphrase_file))
    if count > public.batch:
        raise SecureImgError(f"--count {count} is more than the {public.batch} images that the program takes at a time")
    blob = read_blob(blob_file, _CIPHERTEXT_BYTES)
    values = keys.decrypt(blob, count) if release_bits is None else keys.release(blob, count, bits=release_bits)
    outputs = finish(values, public)
    labels = labels_of(values)
    if result is not None:
        save_array(result, outputs)
    if as_json:
        write_json({"outputs": [row.ravel().tolist() for row in outputs], "labels": labels})
        return
    for row, label in zip(outputs, labels, strict=True):
        name = public.labels[label] if public.labels is not None and label < len(public.labels) else str(label)
        out.print(f"{name}: " + "  ".join(f"{value:.4g}" for value in row.ravel()[:20]), soft_wrap=True)
