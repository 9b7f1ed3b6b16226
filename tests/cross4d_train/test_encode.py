import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cross4d_cache import open_cache
from cross4d_cache.datasets.folder.ply import read_ply
from cross4d_cache.durable import partial_path
from cross4d_cache.errors import OutputError, SettingsError
from cross4d_cache.work import Remark, finish
from cross4d_train import load
from cross4d_train.checkpoint import CHECKPOINT_FILE
from cross4d_train.encode import EncodeRequest, encode
from cross4d_train.feature_files import INDEX_FILE, ColourSpace, FeatureIndex, folder_name, ply
from cross4d_train.report.colours import Palette
from cross4d_train.resources import Resources
from tests.cross4d_train.conftest import make_infos, write_store
from tests.cross4d_train.test_features import train
from tests.cross4d_train.test_train_cli import run as shell

CPU = Resources(device="cpu")


@pytest.fixture(scope="module")
def checkpoint(store, tmp_path_factory):
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("encode") / "run"
    folder.mkdir()
    train(store).save(folder / CHECKPOINT_FILE)
    return folder


@pytest.fixture(scope="module")
def encoded(store, checkpoint, tmp_path_factory):
    """All features of the store."""
    out = tmp_path_factory.mktemp("encode") / "features"
    result = finish(encode(EncodeRequest(checkpoint=str(checkpoint), store=str(store), out=out), CPU))
    assert (result.sequences, result.new, result.frames) == (12, 12, sum(info.num_frames for info in make_infos()))
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_are_what_python_gives_for_the_points_of_the_store(store, checkpoint, encoded):
    cache, student = open_cache(store), load(checkpoint, device="cpu")
    for index, info in enumerate(cache.sequences):
        points = cache.points(index)
        expected = student.features(points)
        folder = encoded / info.id
        offsets = np.load(folder / "offsets.npy")
        assert offsets.tolist() == np.cumsum([0, *map(len, points)]).tolist()
        np.testing.assert_array_equal(np.load(folder / "features.npy"), np.concatenate(expected))
        np.testing.assert_array_equal(np.load(folder / "points.npy"), np.concatenate(points))
        files = sorted(path.name for path in folder.glob("*.ply"))
        assert files == [f"{number:06d}.ply" for number in range(info.num_frames)]
        for points_of_frame, file in zip(points, files, strict=True):
            np.testing.assert_array_equal(read_ply((folder / file).read_bytes()).points, points_of_frame)


def test_equal_features_have_equal_colours_in_the_whole_store(encoded):
    index = FeatureIndex.from_json((encoded / INDEX_FILE).read_bytes())
    assert index.colours is not None
    for id in ("s0", "s11"):
        features = np.load(encoded / id / "features.npy")[: np.load(encoded / id / "offsets.npy")[1]]
        colours = index.colours.palette.colours(torch.from_numpy(features)).numpy()
        data = (encoded / id / "000000.ply").read_bytes()
        found = np.frombuffer(data[-15 * len(features) :], np.uint8).reshape(-1, 15)[:, 12:]
        np.testing.assert_array_equal(found, np.rint(255 * colours))
        assert found.std() > 20


def test_a_ply_file_by_hand():
    data = ply(np.array([[1, 2, 3]], np.float32), np.array([[0, 0.5, 1]], np.float32))
    header, _, body = data.partition(b"end_header\n")
    assert header.decode().splitlines() == [
        "ply",
        "format binary_little_endian 1.0",
        "element vertex 1",
        *(f"property float {name}" for name in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
    ]
    assert body == np.array([1, 2, 3], "<f4").tobytes() + bytes([0, 128, 255])


def test_colours_come_back_from_the_index_as_they_were():
    palette = Palette.of(torch.randn(50, 7, generator=torch.Generator().manual_seed(0)))
    again = ColourSpace.from_json(ColourSpace.of(palette).model_dump_json()).palette
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(palette).items())


def test_what_was_finished_is_not_made_again_and_what_was_not_is(store, checkpoint, encoded, tmp_path):
    """A first call for two sequences; of the second one nothing is left; a killed process left half of a third."""
    out = tmp_path / "features"
    request = EncodeRequest(checkpoint=str(checkpoint), store=str(store), out=out)
    assert finish(encode(request.model_copy(update={"limit": 2}), CPU)).new == 2
    assert sorted(path.name for path in out.iterdir()) == [INDEX_FILE, "s0", "s1"]
    (out / "s0" / "mark").touch()
    shutil.rmtree(out / "s1")
    partial_path(out, "sequence").mkdir()
    result = finish(encode(request, CPU))
    assert (result.sequences, result.new) == (12, 11)
    (out / "s0" / "mark").unlink()
    assert contents(out) == contents(encoded)
    assert finish(encode(request, CPU)).new == 0
    assert finish(encode(request.model_copy(update={"limit": 1}), CPU)).sequences == 1
    assert contents(out) == contents(encoded)


def test_a_stopped_call_leaves_whole_sequences_alone(store, checkpoint, tmp_path):
    work = encode(EncodeRequest(checkpoint=str(checkpoint), store=str(store), out=tmp_path, formats=("npy",)), CPU)
    for event in work:
        if not isinstance(event, Remark) and event.stage.name == "encode" and event.done == 9:  # of seven frames of the first and eight
            break
    work.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [INDEX_FILE, "s0"]


def test_features_of_other_requests_are_not_mixed(store, checkpoint, encoded, tmp_path):
    request = EncodeRequest(checkpoint=str(checkpoint), store=str(store), out=encoded)
    train(store, **{"training.seed": 1}).save(tmp_path / "other.safetensors")
    other_store = write_store(tmp_path / "store.zarr", make_infos()[:3], weights="other")
    for change, difference in (
        ({"checkpoint": str(tmp_path / "other.safetensors")}, "checkpoint_sha256: "),
        ({"store": str(other_store)}, "fingerprint: "),
        ({"stride": 2}, "clips.stride: 2 here, 1 there"),
        ({"formats": ("npy",)}, "formats: "),
    ):
        before = contents(encoded)
        with pytest.raises(OutputError, match="features that were made otherwise") as refused:
            finish(encode(request.model_copy(update=change), CPU))
        assert any(line.startswith(difference) for line in refused.value.details), refused.value
        assert contents(encoded) == before


def test_a_folder_of_something_else_is_left_alone(store, checkpoint, tmp_path):
    request = EncodeRequest(checkpoint=str(checkpoint), store=str(store), out=tmp_path)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OutputError, match=r"something else in it: thesis\.tex"):
        finish(encode(request, CPU))
    (tmp_path / "thesis.tex").rename(tmp_path / INDEX_FILE)
    with pytest.raises(OutputError, match="cannot be read"):
        finish(encode(request, CPU))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Not a directory"):
        finish(encode(request.model_copy(update={"out": tmp_path / "file" / "out"}), CPU))


def test_too_little_space_is_told_before_the_work(store, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1000))
    with pytest.raises(OutputError, match=r"about .* GB of features do not fit"):
        finish(encode(EncodeRequest(checkpoint=str(checkpoint), store=str(store), out=tmp_path / "out"), CPU))
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_message(store, checkpoint, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cross4d_train.feature_files.sync_tree", full)
    with pytest.raises(OutputError, match="No space left on device"):
        finish(encode(EncodeRequest(checkpoint=str(checkpoint), store=str(store), out=tmp_path / "out"), CPU))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [INDEX_FILE]


@pytest.mark.parametrize(
    "id", ["../../etc/passwd", "/root", "..", ".", ".hidden.0123456789abcdef.partial", "a/b", "ü", "a%2Fb", "", INDEX_FILE]
)
def test_ids_of_other_people_stay_in_the_folder(id, tmp_path):
    name = folder_name(id)
    assert (tmp_path / name).resolve().parent == tmp_path.resolve()
    assert not name.startswith(".")
    assert name not in (INDEX_FILE, "")


def test_ids_and_folders_belong_together():
    ids = ["a/b", "a%2Fb", "a b", "a", ".a", "%2Ea", "", "%", "A-1_2.x"]
    assert len({folder_name(id) for id in ids}) == len(ids)
    assert folder_name("A-1_2.x") == "A-1_2.x"


def test_a_store_without_points_of_anything_is_refused(checkpoint, store, tmp_path, monkeypatch):
    monkeypatch.setattr("cross4d_cache.store.reader.Cache.__len__", lambda cache: 0)
    with pytest.raises(SettingsError, match="has no sequences"):
        finish(encode(EncodeRequest(checkpoint=str(checkpoint), store=str(store), out=tmp_path), CPU))


def test_the_command_says_sizes_first_and_what_is_there_last(store, checkpoint, tmp_path):
    arguments = ("encode", "--checkpoint", checkpoint, "--cache", store, "--out", tmp_path / "out", "--limit", 2, "--device", "cpu")
    result = shell(*arguments, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["bytes"] == sum(len(data) for name, data in contents(tmp_path / "out").items() if name != INDEX_FILE)
    assert {name: record[name] for name in ("out", "sequences", "new", "frames", "channels")} == {
        **{"out": str(tmp_path / "out"), "sequences": 2, "new": 2, "frames": 15, "channels": 32}
    }
    assert "15 frames, about 1," in result.stderr
    assert "GB as npy and ply, with " in result.stderr
    again = shell(*arguments)
    assert again.stdout.splitlines()[1:4] == ["sequences  2", "new        0", "frames     15"]
    only = shell("encode", "--checkpoint", checkpoint, "--cache", store, "--out", tmp_path / "npy", "--limit", 1, "--format", "npy")
    assert only.exit_code == 0, only.output
    assert sorted(path.name for path in (tmp_path / "npy" / "s0").iterdir()) == ["features.npy", "offsets.npy", "points.npy"]
    wrong = shell(*arguments, "--format", "obj")
    assert (wrong.exit_code, "one or several of: npy,ply" in wrong.stderr) == (2, True)
    mixed = shell(*arguments, "--stride", 2)
    assert (mixed.exit_code, "choose another --out" in mixed.stderr) == (2, True)


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """Two sequences of PLY frames, y up, in the working folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("sit", "stand"):
        Path("scans", name).mkdir(parents=True)
        for number in range(5):
            points = rng.uniform([-0.3, -0.9, -0.2], [0.3, 0.9, 0.2], (120, 3)).astype(np.float32)
            Path("scans", name, f"{number}.ply").write_bytes(ply(points, np.zeros_like(points)))
    return Path("scans")


def test_features_of_a_folder_of_files_in_one_command(checkpoint, scans):
    words = ["encode", "--checkpoint", str(checkpoint), "--data", "scans", "--option", "axes=x,-y,-z", "--device", "cpu", "--quiet"]
    for _ in range(2):  # the second time everything is there
        ended = shell(*words)
        assert ended.exit_code == 0, ended.output
    cache = open_cache("features.zarr")
    assert [info.id for info in cache.sequences] == ["sit", "stand"]
    assert (cache.manifest.teacher.name, cache.manifest.reader_options["axes"]) == ("none", "x,-y,-z")
    expected = load(checkpoint, device="cpu").features(cache.points(1))
    np.testing.assert_array_equal(np.load("features/stand/features.npy"), np.concatenate(expected))
    shutil.rmtree("features")
    assert shell("encode", "--checkpoint", str(checkpoint), "--cache", "features.zarr", "--device", "cpu", "--quiet").exit_code == 0
    np.testing.assert_array_equal(np.load("features/stand/features.npy"), np.concatenate(expected))


def test_a_damaged_sequence_is_left_out_as_the_message_says(checkpoint, scans):
    damaged = Path("scans/sit/3.ply")
    damaged.write_bytes(damaged.read_bytes()[:-7])
    words = ["encode", "--checkpoint", str(checkpoint), "--data", "scans", "--device", "cpu", "--quiet"]
    ended = shell(*words)
    assert ended.exit_code == 2
    assert "leave the sequence out with --exclude sit" in ended.stderr
    assert "with another --out" in ended.stderr
    left = shell(*words, "--exclude", "sit", "--out", "whole")
    assert left.exit_code == 0, left.output
    assert [path.name for path in Path("whole").iterdir() if path.is_dir()] == ["stand"]
    unknown = shell(*words, "--exclude", "run", "--out", "other")
    assert (unknown.exit_code, "--exclude names sequences that are not in the dataset: run" in unknown.stderr) == (2, True)


@pytest.mark.parametrize("word", ["--option=axes=x,-y,-z", "--exclude=sit"])
def test_what_is_said_of_files_is_refused_beside_a_store(checkpoint, store, tmp_path, word):
    ended = shell("encode", "--checkpoint", checkpoint, "--cache", store, "--out", tmp_path / "out", word)
    assert (ended.exit_code, (tmp_path / "out").exists()) == (2, False)
    assert "--option or --exclude with --cache" in ended.stderr


def test_a_student_that_is_not_there_is_told_before_a_store_is_built(scans):
    ended = shell("encode", "--checkpoint", "nobody", "--data", "scans", "--quiet")
    assert ended.exit_code == 2
    assert "there is no student at nobody" in ended.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["scans"]


@pytest.mark.parametrize(
    ("words", "said"), [([], "neither --cache nor --data"), (["--cache", "a", "--data", "b"], "both --cache and --data")]
)
def test_either_a_store_or_a_folder(words, said):
    ended = shell("encode", "--checkpoint", "run", *words)
    assert (ended.exit_code, ended.stderr.splitlines()[0]) == (2, f"error: {said}")
