import copy

from cross4d_train.evaluation.linear import HeadSettings
from cross4d_train.evaluation.probe import LinearProbe, ProbeSettings
from cross4d_train.evaluation.transfer import transfer_result
from tests.cross4d_train.evaluation.by_hand import Coordinates, Video, across, clips_of, finish, write_videos


class Mirrored(Coordinates):
    """Takes every body for its mirror image when it is tested, for heads are trained on the first clips it sees."""

    seen = 0

    def forward(self, points):
        self.seen += 1
        return super().forward(points if self.seen == 1 else -points)


def test_two_encoders_on_two_stores_by_hand(tmp_path):
    """Of three test videos the first store has one labelled against what it shows, the second two; a mirror swaps right and wrong."""
    stores = []
    for number, labels in enumerate([(0, 1, 0), (1, 0, 0)]):
        videos = [Video(id="left", side="train", action=0, frames=across(-1)), Video(id="right", side="train", action=1, frames=across(1))]
        places = (-1, 1, 1) if number == 0 else (-1, 1, -1)
        videos += [
            Video(id=f"test{index}", side="test", action=label, frames=across(place))
            for index, (label, place) in enumerate(zip(labels, places, strict=True))
        ]
        stores.append(str(write_videos(tmp_path / f"store{number}.zarr", videos)))
    settings = ProbeSettings(clips=clips_of(1), num_windows=1, head=HeadSettings(num_epochs=100, learning_rate=0.1))
    probes = [
        [finish(LinearProbe, store, settings, copy.deepcopy(encoder)) for store in stores]
        for encoder in (Coordinates((0,)), Mirrored((0,)))
    ]
    result = transfer_result(["plain", "mirrored"], stores, probes)
    shares = [[round(3 * probe.standardised.video_accuracy) for probe in row] for row in result.probes]
    assert shares == [[2, 1], [1, 2]]
    shown = [[{"video_accuracy": 0.1 * row + 0.2 * column} for column in (0, 1)] for row in (0, 1)]
    raw = [[probe.raw.model_copy(update=shown[row][column]) for column, probe in enumerate(probes[row])] for row in (0, 1)]
    told = [[probe.model_copy(update={"raw": raw[row][column]}) for column, probe in enumerate(probes[row])] for row in (0, 1)]
    _, columns, *rows = transfer_result(["plain", "mirrored"], stores, told).describe().splitlines()
    assert columns.split() == ["fake", "(store0.zarr)", "fake", "(store1.zarr)"]
    assert [row.split() for row in rows] == [
        ["plain", "0.000", "/", "0.667", "0.200", "/", "0.333"],
        ["mirrored", "0.100", "/", "0.333", "0.300", "/", "0.667"],
    ]
