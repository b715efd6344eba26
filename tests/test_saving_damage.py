"""Files that are no longer, or never were, what fastgrad.save wrote: fastgrad.load refuses each."""

import hashlib
import io
import json
import os
import pickle
import random
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest

import fastgrad
from fastgrad import nn, saving


def texts(values):
    return [repr(value) for value in values]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.npz"


def rejected(path, text=""):
    """Loading raises ValueError; returns what it says, and the most memory that it took."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=text) as error:
            fastgrad.load(path)
        return str(error.value), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def whole(path):
    random.seed(2026)
    model = nn.MLP(3, [4, 2])
    fastgrad.save({"model": model, "epoch": 3, "random": random.getstate()}, path)
    return path.read_bytes()


def edited(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def flip(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def other_bytes(data, rng):
    """Zeros as from a hole in a file, a part twice or not at all, data behind the end."""
    at = rng.randrange(len(data))
    count = rng.choice([1, 16, 512, 4096])
    return rng.choice(
        [
            edited(data, at, bytes(min(count, len(data) - at)).replace(b"\0", b"\x5a")),
            data[:at] + data[at : at + count] + data[at:],
            data[:at] + data[at + count :],
            data + rng.randbytes(count),
        ]
    )


def other_version(data, rng):
    at = data.rindex(saving.MAGIC) + len(saving.MAGIC)
    return sealed(edited(data[:-64], at, b"%04d" % rng.choice([0, 2, 3, 10, 9999])))


class Malice:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (self.mark, "w"))


def pickled(data, rng):
    """Pickles as they are, with the end of a file of ours, and as the elements of an array."""
    pickles = pickle.dumps(Malice("mark"), protocol=rng.randrange(6))
    file = io.BytesIO()
    np.save(file, np.array([Malice("mark")], dtype=object), allow_pickle=True)
    return rng.choice(
        [
            pickles,
            pickles + data,
            sealed(pickles + data[-saving.TRAILER : -64]),
            archive({saving.HEAD: b'{"$array": "x"}', "x.npy": file.getvalue()}),
            archive({saving.HEAD: pickles}),
            archive({saving.HEAD: b'{"$array": "x"}', "x.npy": pickles}),
        ]
    )


def sealed(data):
    """With a checksum that is right."""
    return data + hashlib.sha256(data).hexdigest().encode()


def archive(members, compression=zipfile.ZIP_STORED, edit=lambda data: data):
    """An archive as `save` writes it, but for what is in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in members.items():
            made.writestr(zipfile.ZipInfo(name), content, compression)
        made.comment = saving.MAGIC + b"0001, sha256 " + b" " * 64
    return sealed(edit(file.getvalue()[:-64]))


def member(shape, content=b"", descr="<f8"):
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + content


def of_one(content, **options):
    return archive({saving.HEAD: b'{"$array": "x"}', "x.npy": content}, **options)


def large_in_directory(data):
    """The second member is said to have 4 GB."""
    at = data.rindex(b"PK\1\2")
    return edited(data, at + 20, b"\xf0" * 8)


def overlapping(data):
    """The same member ten times."""
    at = [k for k in range(len(data)) if data[k : k + 4] == b"PK\1\2"][1]
    entry = data[at : at + 46 + len("x.npy")]
    end = data.rindex(b"PK\5\6")
    more = 9 * entry
    size = int.from_bytes(data[end + 12 : end + 16], "little") + len(more)
    data = edited(data, end + 12, size.to_bytes(4, "little"))
    return data[:end] + more + data[end:]


def encrypted(data):
    """The members are said to need a password."""
    for kind, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = -1
        while (at := data.find(kind, at + 1)) >= 0:
            data = edited(data, at + flags, b"\1")
    return data


def hostile(data, rng):
    """Files whose checksum is right."""
    return rng.choice(HOSTILE)[0]


HOSTILE = [
    (of_one(member((10**7,), bytes(8 * 10**7)), compression=zipfile.ZIP_DEFLATED), "a compressed"),
    (of_one(member((10**6,), bytes(8 * 10**6)), compression=zipfile.ZIP_BZIP2), "a compressed"),
    (of_one(member((10**6,), bytes(8 * 10**6)), compression=zipfile.ZIP_LZMA), "a compressed"),
    (of_one(member((10**12,), bytes(8))), r"x.npy is of another size than its shape \(10000"),
    (of_one(member((2**62, 4), bytes(8))), "x.npy is of another size than its shape"),
    (of_one(member((-1, -1), bytes(8))), r"x.npy holds float64 of shape \(-1, -1\)"),
    (of_one(member((0, 2**70))), "OverflowError"),
    (of_one(member((1,), bytes(16), "<c16")), "x.npy holds complex128"),
    (of_one(member((1,), bytes(8), "|O")), "x.npy holds object"),
    (of_one(member((1,), bytes(8), [("a", "<f8")])), "x.npy holds"),
    (of_one(member((1,), bytes(8)).replace(b"\1\0", b"\2\0", 1)), "x.npy is no array"),
    (of_one(member((1,), bytes(8)), edit=large_in_directory), "members larger than the file"),
    (of_one(member((1,), bytes(8)), edit=lambda d: d.replace(b"\0" * 8, b"\1" * 8)), "Bad"),
    (of_one(member((50_000,), bytes(400_000)), edit=overlapping), "members larger than the file"),
    (of_one(member((1,), bytes(8)), edit=encrypted), "is encrypted, password required"),
    (archive({f"{k}": b"" for k in range(25_000)}), "its directory is too long"),
    (archive({saving.HEAD: b" " * (1 << 20) + b"[]"}), "first, of at most 1048576 bytes"),
    (archive({saving.HEAD: b"[" * 100_000}), "RecursionError"),
    (archive({saving.HEAD: b"1" * 5000}), "Exceeds the limit"),
    (archive({saving.HEAD: b'{"$array": "x"}'}), "KeyError: 'x'"),
    (archive({saving.HEAD: b'{"$dict": [[[], 1]]}'}), "unhashable type"),
    (archive({saving.HEAD: b"\xff"}), "UnicodeDecodeError"),
    (archive({saving.HEAD: b""}), "JSONDecodeError"),
    (archive({"x.npy": member((0,))}), "expected fastgrad.json first"),
    (archive({}), "IndexError"),
    (sealed(saving.MAGIC + b"0001, sha256 "), "is damaged, or made by hand"),
]


@pytest.mark.parametrize(("data", "text"), HOSTILE, ids=[text for _, text in HOSTILE])
def test_hostile_files(path, data, text):
    path.write_bytes(data)
    said, peak = rejected(path, text)
    assert said.startswith(f"{path} is damaged, or made by hand: ")
    assert peak < 2 * len(data) + 1_000_000


NAMES = ["../x", "/tmp/x", "..\\x", "C:x", "fastgrad/__init__.py", "x\n"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_paths(path, name):
    """They are but names: nothing is unpacked."""
    head = f'{{"$array": {json.dumps(name)}}}'.encode()
    path.write_bytes(archive({saving.HEAD: head, f"{name}.npy": member((1,), bytes(8))}))
    assert fastgrad.load(path).tolist() == [0]
    assert os.listdir(path.parent) == [path.name]


AUDITED = """
import os, pickle, sys, tokenize, traceback
import fastgrad

def watch(event, arguments):
    if watching:
        seen.append((event, arguments))

watching, seen = False, []
whole, *others = sys.argv[1:]
fastgrad.load(whole)  # and what it imports
try:
    fastgrad.load(others[0])
except ValueError as error:
    traceback.format_exception(error)
sys.addaudithook(watch)
loaded = 0
for path in others:
    watching = True
    try:
        fastgrad.load(path)
        loaded += 1
    except ValueError:
        pass
    watching = False
print(loaded, "of", len(others))
assert {event for event, _ in seen} == {"open", "compile"}, seen
for event, (what, how, *flags) in seen:
    if event == "open":
        assert not flags[0] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT), what
    else:  # NumPy parses an array's header so, and does not run it
        assert how == "<unknown>", what
watching = True
pickle.loads(pickle.dumps(fastgrad.load))
assert seen[-1][0] == "pickle.find_class"  # it would have been seen
"""


def test_loading_only_reads(path, whole):
    """The interpreter tells its audit hooks of each file, pickled name, import and code it runs."""
    rng = random.Random(2026)
    made = [data for data, _ in HOSTILE] + [pickled(whole, rng) for _ in range(100)]
    paths = [path.parent / f"{k}.npz" for k in range(len(made))]
    for one, data in zip(paths, made):
        one.write_bytes(data)
    before = sorted(os.listdir(path.parent))
    ended = subprocess.run(
        [sys.executable, "-c", AUDITED, path, *paths],
        cwd=path.parent,
        capture_output=True,
        text=True,
    )
    assert not ended.returncode, ended.stderr
    assert ended.stdout == f"0 of {len(made)}\n"
    assert sorted(os.listdir(path.parent)) == before


FOREIGN = (
    r"is no file of fastgrad\.save, or only the beginning of one: \d+ bytes that begin with b'"
)
WHAT = {
    flip: (400, r"damaged: |is of version|" + FOREIGN),
    lambda data, rng: data[: rng.randrange(len(data))]: (200, r"damaged: |" + FOREIGN),
    other_bytes: (150, r"damaged: |is of version|" + FOREIGN),
    other_version: (50, r"is of version b'\d+', expected 0001: it is damaged, or a newer fastgrad"),
    pickled: (100, r"damaged|" + FOREIGN),
    hostile: (100, r"is damaged, or made by hand: "),
}


def test_a_thousand_corrupted_files(path, whole, monkeypatch):
    """Each is an error, none loads, runs code or takes more than twice what it holds."""
    monkeypatch.chdir(path.parent)
    rng = random.Random(2026)
    model = nn.MLP(3, [4, 2])
    before = texts(model.parameters())
    count = 0
    for corrupt, (times, text) in WHAT.items():
        for _ in range(times):
            data = corrupt(whole, rng)
            assert data != whole
            path.write_bytes(data)
            said, peak = rejected(path, text)
            assert said.startswith(f"{path} is ")
            assert len(said) < 500
            assert peak < 2 * len(data) + 1_000_000
            assert os.listdir() == [path.name]
            count += 1
    assert count == 1000
    assert texts(model.parameters()) == before
    path.write_bytes(whole)
    model.load_state_dict(fastgrad.load(path)["model"])
    assert texts(model.parameters()) != before


def test_every_byte_counts(path):
    fastgrad.save([1], path)
    data = path.read_bytes()
    for k in range(0, 8 * len(data), 5):
        path.write_bytes(edited(data, k // 8, bytes([data[k // 8] ^ (1 << k % 8)])))
        with pytest.raises(ValueError, match=r"damaged|is no file|is of version"):
            fastgrad.load(path)


def test_a_large_file_takes_its_memory_once(path):
    array = np.arange(2e6)
    fastgrad.save({"x": array, "y": array[:1000]}, path)
    tracemalloc.start()
    got = fastgrad.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (got["x"] == array).all()
    assert peak < 1.1 * array.nbytes


def test_what_is_no_file(path):
    with pytest.raises(FileNotFoundError):
        fastgrad.load(path)
    with pytest.raises(IsADirectoryError):
        fastgrad.load(path.parent)
    nowhere = path.parent / "nowhere" / "model.npz"
    with pytest.raises(FileNotFoundError) as caught:  # by its name, not the temporary's
        fastgrad.save(1, nowhere)
    assert str(caught.value).endswith(f"'{nowhere}'")
    for data, text in [(b"", "0 bytes"), (b"\x89PNG\r\n" + bytes(1000), "1006 bytes")]:
        path.write_bytes(data)
        with pytest.raises(ValueError, match=text):
            fastgrad.load(path)
    np.savez_compressed(path, x=np.zeros(10**6))
    rejected(path, FOREIGN + "PK")
    assert rejected("/dev/zero", FOREIGN)[1] < 1_000_000
