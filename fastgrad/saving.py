"""`save` and `load`: states of models and optimizers, and what goes with them, in one file.

A file is NumPy's ``.npz`` without pickles: a zip archive that holds ``fastgrad.json``, a tree of
plain things, and an ``.npy`` member for each array in it; ``numpy.load`` reads it too.  The comment
at its end, which is the archive's, tells the version and the SHA-256 of all that comes before.
These are checked first.  They show damage, but not who made the file, so what follows believes
nothing: members are stored as they are, are no larger together than the file, and hold numbers.

Invariant: the file at a path is whole, the old or the new; `load` returns all of it, or raises.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import zipfile
from typing import IO, Any

import numpy as np

VERSION = 1
HEAD = "fastgrad.json"
MAGIC = b"made by fastgrad.save, version "
TRAILER = len(MAGIC) + len("0001, sha256 ") + 64  # bytes
LONGEST = 1 << 20  # bytes of the tree, and of the archive's directory: what both become is larger
DEEPEST = 64


def save(obj: Any, path: str | os.PathLike[str]) -> None:
    """Write the state of a model or an optimizer, or a dict of such and of plain things, to a file.

    Parameters
    ----------
    obj : module, optimizer, dict, list or tuple
        What has a ``state_dict()`` is saved as that. In dicts, lists and tuples there may also be
        NumPy arrays of real numbers, numbers, strings and None.
    path : str or path-like
        An ``.npz`` by custom. A file that is there is replaced in one go once the new one is safe
        on the disk: whatever happens meanwhile, the file is the old or the new one.

    Raises
    ------
    TypeError
        If there is something else in `obj`.
    ValueError
        If it is nested too deeply, or what is not arrays takes more than 1 MiB as text.
    OSError
        If the file cannot be written.

    Notes
    -----
    The same content gives the same bytes. Nothing in a file can run code, other than in a pickle.

    Examples
    --------
    >>> import os, random, tempfile
    >>> import fastgrad
    >>> from fastgrad.nn import MLP
    >>> model = MLP(2, [3, 1])
    >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
    >>> fastgrad.save(model, path)
    >>> model.load_state_dict(fastgrad.load(path))
    >>> fastgrad.save({"model": model, "epoch": 3, "random": random.getstate()}, path)
    >>> checkpoint = fastgrad.load(path)
    >>> model.load_state_dict(checkpoint["model"])
    >>> random.setstate(checkpoint["random"])
    >>> checkpoint["epoch"]
    3
    """
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_tree(obj, (), arrays)).encode()
    plain = len(text) + sum(len(name) + 100 for name in arrays)  # and the archive's directory
    if plain > LONGEST:
        raise ValueError(
            f"what is not arrays takes {plain} bytes as text, expected at most {LONGEST}: make "
            "long lists, or many small arrays, one NumPy array"
        )
    path = os.path.realpath(os.fsdecode(path))  # of a link the file
    temporary = f"{path}.{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "x+b") as file:
            _write(file, text, arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError):  # name the file that was asked for
            raise OSError(error.errno, error.strerror, path) from None
        raise
    if os.name == "posix":  # elsewhere a directory cannot be opened
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(folder)  # else a power cut may bring the old name back
        finally:
            os.close(folder)


def load(path: str | os.PathLike[str]) -> Any:
    """Read what `save` has written.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    dict, list or tuple
        What was saved: for a model what its ``load_state_dict`` takes, for a dict of models,
        optimizers and plain things a dict of their states and these things.

    Raises
    ------
    ValueError
        If the file was not made by `save`, or is not as it was written, or of a newer version.
    OSError
        If it cannot be read.

    Notes
    -----
    Takes the memory of the arrays, once.

    Examples
    --------
    >>> import os, tempfile
    >>> import fastgrad
    >>> path = os.path.join(tempfile.mkdtemp(), "notes.npz")
    >>> fastgrad.save({"losses": [0.5, 0.25], "name": "first"}, path)
    >>> fastgrad.load(path)
    {'losses': [0.5, 0.25], 'name': 'first'}
    """
    path = os.fsdecode(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        _check(file, size, path)
        try:
            return _read(file, size)
        except MemoryError:
            raise
        except SystemError as error:  # from Python 3.12's own parser, where memory ran out
            raise MemoryError from error
        # Whatever a parser may raise of a file that somebody has made up, its checksum included.
        except Exception as error:
            raise ValueError(
                f"{path} is damaged, or made by hand: {type(error).__name__}: {error!s:.200}"
            ) from error


# ---- the tree


def _tree(thing: Any, path: tuple[Any, ...], arrays: dict[str, np.ndarray]) -> Any:
    """A thing in JSON's terms; arrays are put aside under the names by which it tells them."""
    if isinstance(thing, np.generic):
        thing = thing.item()
    if thing is None or isinstance(thing, (bool, int, float, str)):
        return thing
    if isinstance(thing, np.ndarray) and thing.dtype.kind in "fiub" and thing.itemsize <= 8:
        name = ".".join(map(str, path))
        if name in arrays or not re.fullmatch(r"[\w .,\[\]-]+", name, re.ASCII):
            name = f"${len(arrays)}"
        arrays[name] = thing
        return {"$array": name}
    if len(path) == DEEPEST:
        raise ValueError(f"cannot save what is nested more than {DEEPEST} deep")
    if hasattr(thing, "state_dict"):
        state = thing.state_dict()
        if not state:
            raise ValueError(
                f"nothing to save{_where(path)}: {type(thing).__name__} has an empty state; does "
                "its parameters() list what it trains?"
            )
        return _tree(state, path, arrays)
    if isinstance(thing, dict):
        plain = all(isinstance(key, str) and key[:1] != "$" for key in thing)
        pairs = [(_key(key, path), _tree(one, (*path, key), arrays)) for key, one in thing.items()]
        return dict(pairs) if plain else {"$dict": pairs}
    if isinstance(thing, (list, tuple)):
        items = [_tree(one, (*path, k), arrays) for k, one in enumerate(thing)]
        return items if isinstance(thing, list) else {"$tuple": items}
    raise TypeError(
        f"cannot save {type(thing).__name__} {thing!r:.60}{_where(path)}: expected modules, "
        "optimizers, dicts, lists, tuples, NumPy arrays of real numbers, numbers, strings and None"
    )


def _key(key: Any, path: tuple[Any, ...]) -> Any:
    if isinstance(key, (str, int)):
        return key
    raise TypeError(
        f"cannot save a dict with the key {key!r:.60}{_where(path)}: expected strings and ints"
    )


def _where(path: tuple[Any, ...]) -> str:
    return " at " + "".join(f"[{key!r}]" for key in path) if path else ""


def _thing(node: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    """What a JSON object stands for; what is in it has been put right."""
    match node:
        case {"$array": name}:
            return arrays[name]
        case {"$tuple": items}:
            return tuple(items)
        case {"$dict": pairs}:
            return dict(pairs)
    return node


# ---- the file


def _write(file: IO[bytes], text: bytes, arrays: dict[str, np.ndarray]) -> None:
    with zipfile.ZipFile(file, "w", allowZip64=False) as archive:
        # Entries of a fixed date, so that the same content gives the same bytes.
        archive.writestr(zipfile.ZipInfo(HEAD), text)
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as member:
                np.lib.format.write_array(member, np.asarray(array, order="C"), (1, 0), False)
        archive.comment = b" " * TRAILER
    end = file.seek(-TRAILER, os.SEEK_END)
    file.write(MAGIC + b"%04d, sha256 " % VERSION)
    file.write(_digest(file, end + TRAILER - 64))


def _digest(file: IO[bytes], size: int) -> bytes:
    """The checksum of the first bytes of a file, which then stands behind them."""
    file.seek(0)
    digest = hashlib.sha256()
    while size > 0 and (part := file.read(min(size, 1 << 16))):
        digest.update(part)
        size -= len(part)
    return digest.hexdigest().encode()


def _check(file: IO[bytes], size: int, path: str) -> None:
    """Raise unless the file is one of ours, of this version, and as it was written."""
    begin = file.read(30 + len(HEAD))
    file.seek(max(size - TRAILER, 0))
    trailer = file.read(TRAILER)
    if not trailer.startswith(MAGIC):
        if begin.endswith(HEAD.encode()):
            raise ValueError(f"{path} is damaged: {size} bytes that end too early, or in others")
        raise ValueError(
            f"{path} is no file of fastgrad.save, or only the beginning of one: {size} bytes that "
            f"begin with {begin[:16]!r}"
        )
    version = trailer[len(MAGIC) :][:4]
    if version != b"%04d" % VERSION:
        raise ValueError(
            f"{path} is of version {version!r}, expected {VERSION:04d}: it is damaged, or a newer "
            "fastgrad is needed"
        )
    if _digest(file, size - 64) != trailer[-64:]:
        raise ValueError(
            f"{path} is damaged: its checksum does not match; expected it as it was written"
        )


def _read(file: IO[bytes], size: int) -> Any:
    # The archive's end says how long its directory is, which zipfile reads before we can look.
    file.seek(size - TRAILER - 42)
    end = file.read(42)
    if end[:4] == b"PK\x06\x07" or int.from_bytes(end[32:36], "little") > LONGEST:
        raise ValueError("its directory is too long, or that of an archive of more than 4 GiB")
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(one.compress_type != zipfile.ZIP_STORED for one in members):
            raise ValueError("a compressed member")
        if sum(one.file_size for one in members) > size:
            raise ValueError("members larger than the file")
        if members[0].filename != HEAD or members[0].file_size > LONGEST:
            raise ValueError(f"expected {HEAD} first, of at most {LONGEST} bytes")
        arrays = {one.filename.removesuffix(".npy"): _array(archive, one) for one in members[1:]}
        text = archive.read(members[0])
    return json.loads(text, object_hook=lambda node: _thing(node, arrays))


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{member.filename} is no array")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.kind not in "fiub" or min(shape, default=0) < 0:
            raise ValueError(f"{member.filename} holds {dtype} of shape {shape}")
        if file.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
            raise ValueError(f"{member.filename} is of another size than its shape {shape}")
        file.seek(0)
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return array
