"""Damage file contents at random, to test how readers handle it."""

import copy
import io
import json
import random
import zipfile

DIGITS = "9" * 5000
ODD_VALUES = (
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


def damage_content(content: bytes, rng: random.Random) -> bytes:
    """Damage a file's bytes in one random way that suits the file format."""
    damage_functions = [_flip_bytes, _cut_end, _splice_bytes, _zero_bytes, _flip_bytes]
    if content[:1] in b"{[":
        damage_functions += [_change_json_values] * 5
    if content[:4] == b"PK\3\4":
        damage_functions += [_damage_zip_member] * 5
    if content[:6] == b"\x93NUMPY":
        damage_functions += [_change_npy_header] * 3
    return rng.choice(damage_functions)(content, rng)


def _flip_bytes(content: bytes, rng: random.Random) -> bytes:
    damaged_bytes = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if damaged_bytes:
            damaged_bytes[rng.randrange(len(damaged_bytes))] = rng.randrange(256)
    return bytes(damaged_bytes)


def _cut_end(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.choice((0, 1, 8, rng.randrange(len(content) + 1)))]


def _splice_bytes(content: bytes, rng: random.Random) -> bytes:
    start_position, target_position = (
        rng.randrange(len(content) + 1),
        rng.randrange(len(content) + 1),
    )
    copied_bytes = content[start_position : start_position + rng.choice((1, 4, 64, 1024))]
    return (
        content[:target_position]
        + copied_bytes
        + content[target_position + rng.choice((0, len(copied_bytes))) :]
    )


def _zero_bytes(content: bytes, rng: random.Random) -> bytes:
    start_position, length = rng.randrange(len(content) + 1), rng.choice((1, 4, 64, 4096))
    return (
        content[:start_position]
        + bytes(min(length, len(content) - start_position))
        + content[start_position + length :]
    )


def _change_json_values(content: bytes, rng: random.Random) -> bytes:
    """Replace or remove one to three values of valid JSON."""
    try:
        json_root = [json.loads(content)]
    except ValueError:  # lines of JSON
        return _flip_bytes(content, rng)
    for _ in range(rng.randint(1, 3)):
        json_node, node_depth = json_root, rng.randint(0, 6)
        while True:
            key = rng.choice(
                list(json_node) if isinstance(json_node, dict) else range(len(json_node))
            )
            if node_depth == 0 or not isinstance(json_node[key], dict | list) or not json_node[key]:
                break
            json_node, node_depth = json_node[key], node_depth - 1
        if rng.random() < 0.15 and json_node is not json_root:
            del json_node[key]
        else:
            json_node[key] = copy.deepcopy(rng.choice(ODD_VALUES))
        if not json_root[0]:
            break
    return json.dumps(json_root[0]).replace('"@digits@"', DIGITS).encode()


def _damage_zip_member(content: bytes, rng: random.Random) -> bytes:
    """Damage one member of a zip archive, and write the archive with correct checksums."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    members[name] = damage_content(members[name], rng)
    zip_buffer = io.BytesIO()
    with zipfile.ZipFile(
        zip_buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    ) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    archive_bytes = zip_buffer.getvalue()
    return _flip_bytes(archive_bytes, rng) if rng.random() < 0.3 else archive_bytes


def _change_npy_header(content: bytes, rng: random.Random) -> bytes:
    """Write a wrong data type, memory order or shape into the header of a .npy file."""
    header_end = 10 + int.from_bytes(content[8:10], "little")
    header = content[10:header_end]
    old_bytes, new_bytes = rng.choice(
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
    header = header.replace(old_bytes, new_bytes, 1)
    return content[:8] + len(header).to_bytes(2, "little") + header + content[header_end:]
