"""Damage of files: bytes flipped, cut or spliced, values of JSON replaced, members of zips
changed."""

import copy
import io
import json
import random
import zipfile

DIGITS = "9" * 5000
ODD = (
    None,
    True,
    -1,
    0,
    0.5,
    1e308,
    float("inf"),
    float("nan"),
    10**30,
    "@digits@",
    "x",
    "²",
    "\ud800",
    "\0",
    "",
    [],
    {},
    [[1, 2], [3]],
    [[]],
    "a" * 300,
    "../../x",
    "..\\x",
    "//host/share/x.mp4",
    {"a": 1},
    [None],
    [0, -1, 0],
    [0, 0, 0],
)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Damage the content in one way, of those that its form allows."""
    ways = [_flipped, _cut, _spliced, _zeroed, _flipped]
    if content[:1] in b"{[":
        ways += [other_values] * 5
    if content[:4] == b"PK\3\4":
        ways += [_other_member] * 5
    if content[:6] == b"\x93NUMPY":
        ways += [_other_header] * 3
    return rng.choice(ways)(content, rng)


def _flipped(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if out:
            out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.choice((0, 1, 8, rng.randrange(len(content) + 1)))]


def _spliced(content: bytes, rng: random.Random) -> bytes:
    start, place = rng.randrange(len(content) + 1), rng.randrange(len(content) + 1)
    piece = content[start : start + rng.choice((1, 4, 64, 1024))]
    return content[:place] + piece + content[place + rng.choice((0, len(piece))) :]


def _zeroed(content: bytes, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(content) + 1), rng.choice((1, 4, 64, 4096))
    return content[:start] + bytes(min(length, len(content) - start)) + content[start + length :]


def other_values(content: bytes, rng: random.Random) -> bytes:
    """Replace, move or remove one to three values of valid JSON."""
    try:
        root = [json.loads(content)]
    except ValueError:  # lines of JSON
        return _flipped(content, rng)
    for _ in range(rng.randint(1, 3)):
        node, depth = root, rng.randint(0, 6)
        while True:
            key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
            if depth == 0 or not isinstance(node[key], dict | list) or not node[key]:
                break
            node, depth = node[key], depth - 1
        if rng.random() < 0.15 and node is not root:
            del node[key]
        else:
            node[key] = copy.deepcopy(rng.choice(ODD))
        if not root[0]:
            break
    return json.dumps(root[0]).replace('"@digits@"', DIGITS).encode()


def _other_member(content: bytes, rng: random.Random) -> bytes:
    """Damage one member of an archive, and write it with right checksums."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    members[name] = damaged(members[name], rng)
    out = io.BytesIO()
    with zipfile.ZipFile(
        out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    ) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    packed = out.getvalue()
    return _flipped(packed, rng) if rng.random() < 0.3 else packed


def _other_header(content: bytes, rng: random.Random) -> bytes:
    """Claim another type, order or shape in the header of a .npy."""
    end = 10 + int.from_bytes(content[8:10], "little")
    header = content[10:end]
    old, new = rng.choice(
        (
            (b"(", b"(3, "),
            (b"(", b"(-1, "),
            (b"(", b"(99999999999, "),
            (b"False", b"True "),
            (b"<f", b"|O"),
            (b"<f", b">f"),
            (b"'shape'", b"'sha"),
            (b"(", b"[" * 90),
            (b"<f", b"|V"),
            (b"<f2", b"<f4"),
            (b"{", b"{'x': 1, "),
            (b"(", b"("),
            (b"<f", b"<c"),
            (b"<f", b"<M"),
        )
    )
    header = header.replace(old, new, 1)
    return content[:8] + len(header).to_bytes(2, "little") + header + content[end:]
