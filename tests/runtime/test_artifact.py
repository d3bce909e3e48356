"""Artifacts, written and read: layout, determinism, and every way to be refused."""

import hashlib
import json
import os
import random
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeout.runtime.archive import Archive
from tapeout.runtime.artifact import Code, Manifest, Port, write
from tapeout.runtime.checksum import checksum
from tapeout.runtime.digest import OPENSSL_FROM, sha256
from tapeout.runtime.errors import RunError
from tapeout.runtime.manifest import seal
from tapeout.runtime.program import load

Pack = Callable[..., Path]
Build = Callable[..., Path]

NOTHING = Manifest("m", "cpu", (), ())


def refusal(path: object, verify: Any = True) -> RunError:
    with pytest.raises(RunError) as caught:
        load(path, verify=verify)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"error[{caught.value.code}]: ")
    return caught.value


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rezip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def remanifest(path: Path, change: Callable[[Any], object]) -> Path:
    """Change the manifest, with its seal made anew: the hand of a stranger, not of chance."""
    files = contents(path)
    tree = json.loads(files["manifest.json"])
    del tree["seal"]
    change(tree)
    return rezip(path, {**files, "manifest.json": seal(tree)})


class TestLayout:
    def test_entries_are_stored_and_aligned(self, artifact: Pack) -> None:
        path = artifact("mlp")
        archive = Archive(path)
        raw = path.read_bytes()
        for name, data in contents(path).items():
            place = archive.places[name]
            assert place.offset % (4096 if name == "weights.bin" else 64) == 0, name
            assert raw[place.offset : place.offset + place.bytes] == data
        archive.close()

    def test_large_weights_lie_on_a_huge_page(self, tmp_path: Path) -> None:
        weights = random.Random(0).randbytes(1 << 20) * 33
        write(tmp_path / "m", NOTHING, {"a": b"1", "weights.bin": weights, "z": b"2"})
        archive = Archive(tmp_path / "m")
        assert archive.places["weights.bin"].offset % (2 << 20) == 0
        assert archive.read_verified("weights.bin") == weights
        assert (archive.read("a"), archive.read("z")) == (b"1", b"2")
        archive.close()
        with zipfile.ZipFile(tmp_path / "m") as zipped:
            assert zipped.testzip() is None

    def test_files_beyond_the_old_limits_of_zip(
        self, artifact: Pack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The limit is lowered, so that everything is written as if it had 4 GiB."""
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
        path = artifact("mlp")
        assert b"PK\6\6" in path.read_bytes()
        archive = Archive(path)
        archive.verify(archive.manifest.files)
        assert archive.places["weights.bin"].offset % 4096 == 0
        archive.close()
        load(path).close()

    def test_any_zip_tool_reads_it(self, artifact: Pack) -> None:
        with zipfile.ZipFile(artifact("mlp")) as archive:
            assert archive.testzip() is None
            assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}

    def test_bytes_depend_on_contents_only(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = {"b/x": b"1", "a": b"22", "weights.bin": bytes(5000)}
        write(tmp_path / "one", NOTHING, files)
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        write(tmp_path / "two", NOTHING, dict(reversed(files.items())))
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()

    def test_folder_and_file_hold_the_same(self, artifact: Pack) -> None:
        path, folder = artifact("mlp"), artifact("mlp", "dir")
        files = contents(path)
        assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == set(
            files
        )
        assert all((folder / name).read_bytes() == data for name, data in files.items())

    def test_manifest_round_trips(self, artifact: Pack) -> None:
        for model in ("mlp", "scale", "positive"):
            archive = Archive(artifact(model))
            assert Manifest.from_json(archive.manifest.to_json()) == archive.manifest
            archive.close()

    def test_content_comes_from_bytes_views_or_files(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"from a file")
        (tmp_path / "empty").write_bytes(b"")
        array = memoryview(bytes(range(24))).cast("i", (2, 3))
        files = {"a": b"bytes", "b": array, "c": tmp_path / "file", "d": tmp_path / "empty"}
        manifest = write(tmp_path / "m", NOTHING, files)
        found = contents(tmp_path / "m")
        assert [found[n] for n in "abcd"] == [b"bytes", array.tobytes(), b"from a file", b""]
        assert {n: f.bytes for n, f in manifest.files.items()} == {"a": 5, "b": 24, "c": 11, "d": 0}

    def test_a_failed_write_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            write(tmp_path / "m", NOTHING, {"a": tmp_path / "absent"})
        with pytest.raises(RunError, match="E0504"):
            write(tmp_path / "m", NOTHING, {"../a": b""})
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 4, 8192, 3 * 8192 + 3, (3 << 20) + 2])
def test_checksums_of_c_and_python_agree(build: Build, tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (tmp_path / "w").write_bytes(data)
    program = build("mlp.c", "checksum.c", ("-O2", f"-DWEIGHTS_BYTES={size}"))
    for threads in ("1", "3"):
        command = [program, tmp_path / "w", threads]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert [int(number) for number in out.split()] == [checksum(data)] * 2


def test_checksum_sees_every_changed_bit_and_swapped_words() -> None:
    data = bytearray(random.Random(0).randbytes(20_000))
    sums = {checksum(bytes(data))}
    for bit in range(0, len(data) * 8, 997):
        data[bit // 8] ^= 1 << bit % 8
        sums.add(checksum(bytes(data)))
        data[bit // 8] ^= 1 << bit % 8
    assert len(sums) == 1 + len(range(0, len(data) * 8, 997))
    words = np.frombuffer(bytes(data), np.uint32).copy()
    words[[3, 2051]] = words[[2051, 3]]
    assert checksum(words.tobytes()) not in sums


@pytest.mark.parametrize("size", [0, 1000, OPENSSL_FROM - 1, OPENSSL_FROM, OPENSSL_FROM + 1])
def test_digests_of_both_implementations_are_sha256(size: int) -> None:
    data = random.Random(size).randbytes(size)
    pieces = [data[: size // 3], data[size // 3 :]]
    assert sha256(pieces, size) == hashlib.sha256(data).hexdigest()


class TestDamaged:
    def test_cut_off_anywhere(self, artifact: Pack, tmp_path: Path) -> None:
        whole = artifact("mlp").read_bytes()
        cut = tmp_path / "cut"
        for length in [*range(0, 60), *range(60, len(whole), 997), len(whole) - 1]:
            cut.write_bytes(whole[:length])
            assert refusal(cut).code == "E0501"

    def test_something_behind_it(self, artifact: Pack) -> None:
        path = artifact("mlp")
        path.write_bytes(path.read_bytes() + b"x")
        assert refusal(path).code == "E0501"

    @pytest.mark.parametrize("data", [b"", b"PK", b"\x7fELF" * 100, bytes(1000)])
    def test_no_artifact_at_all(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "x").write_bytes(data)
        assert refusal(tmp_path / "x").code == "E0501"

    def test_absent_empty_folder_and_odd_path(self, tmp_path: Path) -> None:
        for path in (tmp_path / "absent", tmp_path, "a\0b", ""):
            assert refusal(path).code == "E0501"

    @pytest.mark.parametrize("name", ["weights.bin", "cpu/generic.so", "src/rt.h"])
    @pytest.mark.parametrize("format", ["file", "dir"])
    def test_one_changed_byte(self, artifact: Pack, name: str, format: str) -> None:
        path = artifact("mlp", format)
        archive = Archive(path)
        place = archive.places[name]
        archive.close()
        file = path / name if format == "dir" else path
        data = bytearray(file.read_bytes())
        data[place.offset + place.bytes // 2] ^= 4
        file.write_bytes(data)
        assert refusal(path).code == "E0503"
        assert refusal(path, "full").code == "E0503"

    def test_weights_of_another_model(self, artifact: Pack) -> None:
        path = artifact("mlp")
        files = contents(path)
        rezip(path, {**files, "weights.bin": bytes(768)})
        assert refusal(path).code == "E0503"

    def test_random_bytes_never_crash_or_change_the_result(
        self, artifact: Pack, tmp_path: Path
    ) -> None:
        whole = artifact("mlp").read_bytes()
        x = {"x": np.ones((1, 8), np.float32)}
        expected = load(artifact("mlp")).run(x)["y"]
        rng = random.Random(3)
        codes: set[str] = set()
        for _ in range(150):
            data = bytearray(whole)
            # half of them in the directory and manifest, where the structure is
            low = 0 if rng.random() < 0.5 else len(whole) - 2000
            high = 4000 if low == 0 else len(whole)
            data[rng.randrange(low, high)] ^= 1 << rng.randrange(8)
            (tmp_path / "flipped").write_bytes(data)
            try:
                y = load(tmp_path / "flipped").run(x)["y"]
            except RunError as error:
                codes.add(error.code)
            else:
                assert np.array_equal(y, expected)
        assert {"E0501", "E0502", "E0504"} <= codes


class TestManifest:
    @pytest.mark.parametrize("text", [b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000, b"{}"])
    def test_no_manifest(self, artifact: Pack, text: Any) -> None:
        path = artifact("mlp")
        rezip(path, {**contents(path), "manifest.json": text})
        assert refusal(path).code == "E0502"

    def test_edited_by_hand(self, artifact: Pack) -> None:
        path = artifact("mlp", "dir")
        text = (path / "manifest.json").read_text()
        (path / "manifest.json").write_text(text.replace('"model": "mlp"', '"model": "MLP"'))
        assert "seal" in str(refusal(path))

    def test_of_another_schema(self, artifact: Pack) -> None:
        error = refusal(remanifest(artifact("mlp"), lambda tree: tree.update(schema=99)))
        assert error.code == "E0502"
        assert ("schema", 99) in error.facts

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ("inputs", None),
            ("inputs", {}),
            ("inputs", [3]),
            ("inputs/0/dtype", "f31"),
            ("inputs/0/shape", [1.5]),
            ("inputs/0/shape", [True]),
            ("inputs/0/name", None),
            ("files", None),
            ("files/weights.bin/bytes", -1),
            ("files/weights.bin/sha256", "00"),
            ("schema", True),
            ("buckets", {"S": 3}),
        ],
    )
    def test_malformed(self, artifact: Pack, path: str, value: object) -> None:
        def change(tree: Any) -> None:
            *parents, last = path.split("/")
            for key in parents:
                tree = tree[int(key) if key.isdigit() else key]
            tree[last] = value

        assert refusal(remanifest(artifact("mlp"), change)).code == "E0502"

    def test_lists_a_file_that_is_not_there(self, artifact: Pack) -> None:
        path = remanifest(
            artifact("mlp"),
            lambda t: t["files"].update(ghost={"bytes": 0, "sha256": "0" * 64, "checksum": ""}),
        )
        error = refusal(path)
        assert error.code == "E0503"
        assert ("entry", "ghost") in error.facts

    def test_does_not_list_a_file_that_is_there(self, artifact: Pack) -> None:
        path = artifact("mlp")
        rezip(path, {**contents(path), "extra": b""})
        assert refusal(path).code == "E0503"

    def test_lists_another_size(self, artifact: Pack) -> None:
        path = remanifest(artifact("mlp"), lambda t: t["files"]["weights.bin"].update(bytes=767))
        assert refusal(path).code == "E0503"

    def test_tells_of_another_program(self, artifact: Pack) -> None:
        path = remanifest(artifact("mlp"), lambda t: t["outputs"].clear())
        assert refusal(path).code == "E0503"


class TestUnsafe:
    @pytest.mark.parametrize(
        "name",
        ["../up", "/root", "a/../../b", "a//b", "./a", "a\\b", "c:x", "tab\tname", "a" * 201, "é"],
    )
    def test_names(self, artifact: Pack, name: str) -> None:
        path = artifact("mlp")
        rezip(path, {**contents(path), name: b""})
        assert refusal(path).code == "E0504"

    @pytest.mark.parametrize("name", ["../up", "/etc/passwd", ""])
    def test_names_in_a_folder(self, artifact: Pack, name: str) -> None:
        path = artifact("mlp", "dir")
        tree = json.loads((path / "manifest.json").read_bytes())
        del tree["seal"]
        tree["files"][name] = tree["files"]["weights.bin"]
        (path / "manifest.json").write_bytes(seal(tree))
        assert refusal(path).code == "E0504"

    def test_same_name_twice(self, artifact: Pack) -> None:
        path = artifact("mlp")
        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("weights.bin", bytes(768))
        assert refusal(path).code == "E0504"

    def test_compressed(self, artifact: Pack) -> None:
        path = artifact("mlp")
        rezip(path, contents(path), zipfile.ZIP_DEFLATED)
        assert refusal(path).code == "E0504"

    def test_overlapping(self, artifact: Pack) -> None:
        """The directory is bent so that weights.bin starts inside of its neighbour's bytes."""
        path = artifact("mlp")
        inner = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 768, 768, 11, 0)
        files = contents(path)
        files["src/zzz"] = inner + b"weights.bin" + bytes(768)
        rezip(path, files)
        raw = bytearray(path.read_bytes())
        entry = raw.rindex(b"weights.bin", 0, raw.rindex(b"PK\5\6")) - 46
        raw[entry + 42 : entry + 46] = struct.pack("<I", raw.index(inner))
        path.write_bytes(raw)
        error = refusal(path)
        assert error.code == "E0504"
        assert "overlaps" in str(error)

    @pytest.mark.parametrize("name", ["weights.bin", "cpu", "manifest.json"])
    def test_links_in_a_folder(self, artifact: Pack, tmp_path: Path, name: str) -> None:
        path = artifact("mlp", "dir")
        (path / name).rename(tmp_path / "elsewhere")
        (path / name).symlink_to(tmp_path / "elsewhere")
        assert refusal(path).code == "E0501"

    def test_pipe_in_a_folder(self, artifact: Pack) -> None:
        path = artifact("mlp", "dir")
        (path / "weights.bin").unlink()
        os.mkfifo(path / "weights.bin")
        assert refusal(path).code == "E0504"

    def test_too_many_entries(self, artifact: Pack) -> None:
        path = artifact("mlp")
        rezip(path, {f"f{i}": b"" for i in range(5000)})
        assert refusal(path).code == "E0501"


class TestMachine:
    def packed(self, tmp_path: Path, code: bytes, *forms: Code) -> Path:
        manifest = Manifest("m", "cpu", (Port("x", "f32", (1,)),), (), code=forms)
        write(tmp_path / "m", manifest, {"x.so": code})
        return tmp_path / "m"

    def test_of_another_kind(self, tmp_path: Path) -> None:
        forms = Code("neon", "z80", (), "x.so"), Code("huge", os.uname().machine, ("amx9",), "x.so")
        error = refusal(self.packed(tmp_path, b"", *forms))
        assert error.code == "E0505"
        assert ("neon", "needs z80") in error.facts
        assert ("huge", "lacks amx9") in error.facts

    def test_with_a_library_that_does_not_load(self, tmp_path: Path) -> None:
        form = Code("generic", os.uname().machine, (), "x.so")
        for code in (b"", b"\x7fELF nonsense", bytes(10_000)):
            assert refusal(self.packed(tmp_path, code, form)).code == "E0505"

    def test_with_a_library_that_is_not_listed(self, tmp_path: Path) -> None:
        form = Code("generic", os.uname().machine, (), "y.so")
        assert refusal(self.packed(tmp_path, b"", form)).code == "E0503"
