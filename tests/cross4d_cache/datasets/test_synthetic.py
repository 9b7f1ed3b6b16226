import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cross4d_cache.datasets import open_dataset
from cross4d_cache.datasets.synthetic.body import lowest
from cross4d_cache.datasets.synthetic.dataset import Synthetic, SyntheticOptions
from cross4d_cache.datasets.synthetic.primitives import PosedPrimitives, surface_ids, surface_positions
from cross4d_cache.datasets.synthetic.sensor import Sensor
from cross4d_cache.errors import DatasetError, SettingsError

SMALL = {"num_humans": 1, "num_animals": 1, "min_frames": 8, "max_frames": 12, "resolution": 0.5}


@pytest.fixture(scope="module")
def small():
    """One person and one animal, every action once, half the resolution, no noise."""
    return Synthetic(None, SyntheticOptions(**SMALL, noise=0.0))


@pytest.fixture(scope="module")
def everything(small):
    """All sequences of the small dataset."""
    return {info.id: small.read(info) for info in small.sequences()}


def sequence_named(dataset, name):
    return next(info for info in dataset.sequences() if name in info.id)


# Listing and determinism


def test_listing_is_deterministic_and_agrees_with_reading(small, everything):
    again = Synthetic(None, SyntheticOptions(**SMALL, noise=0.0))
    assert list(again.sequences()) == list(small.sequences())
    assert again.fingerprint() == small.fingerprint()
    for info in small.sequences():
        assert everything[info.id].info == info
        assert everything[info.id].num_frames == info.num_frames
        assert SMALL["min_frames"] <= info.num_frames <= SMALL["max_frames"]


def test_ids_are_unique_and_safe_file_names(small):
    ids = [info.id for info in Synthetic(None, SyntheticOptions()).sequences()]
    assert len(set(ids)) == len(ids)
    assert all(id.replace("_", "").isalnum() and id == id.lower() for id in ids)


def test_default_dataset_has_the_promised_size():
    dataset = Synthetic(None, SyntheticOptions())
    assert 6000 <= sum(info.num_frames for info in dataset.sequences()) <= 10000
    kinds = [name.split("/")[0] for name in dataset.action_names]
    assert kinds.count("human") >= 12
    assert kinds.count("animal") >= 6
    assert {info.action for info in dataset.sequences()} == set(range(len(dataset.action_names)))


def test_sequences_are_the_same_bytes_in_any_order():
    options = SyntheticOptions(**SMALL)
    forward, backward = Synthetic(None, options), Synthetic(None, options)
    infos = list(forward.sequences())[::7]
    first = {info.id: forward.read(info) for info in infos}
    for info in reversed(infos):
        other = backward.read(info)
        for name in ("points", "point_offsets", "part_labels", "surface_ids"):
            assert getattr(first[info.id], name).tobytes() == getattr(other, name).tobytes()


def test_a_sequence_does_not_depend_on_how_many_others_there_are():
    few, many = Synthetic(None, SyntheticOptions(**SMALL)), Synthetic(None, SyntheticOptions(**{**SMALL, "num_humans": 5}))
    for name in ("human00_walk_r00", "animal00_graze_r00"):
        ours, theirs = few.read(sequence_named(few, name)), many.read(sequence_named(many, name))
        assert ours.points.tobytes() == theirs.points.tobytes()


def test_another_seed_gives_other_points():
    one, two = (Synthetic(None, SyntheticOptions(**SMALL, seed=seed)) for seed in (0, 1))
    name = "human00_walk_r00"
    assert one.read(sequence_named(one, name)).points.tobytes() != two.read(sequence_named(two, name)).points.tobytes()


@pytest.mark.parametrize("counts", [(12, 6), (2, 0), (0, 2), (4, 3)])
def test_splits_share_no_subject(counts):
    dataset = Synthetic(None, SyntheticOptions(num_humans=counts[0], num_animals=counts[1]))
    sides = {"train": set(), "test": set()}
    for info in dataset.sequences():
        sides[info.splits[dataset.protocols[0]]].add(info.subject)
    assert sides["train"]
    assert sides["test"]
    assert not sides["train"] & sides["test"]
    assert len(sides["train"] | sides["test"]) == sum(counts)


# What a sequence holds


def test_every_frame_has_points_well_inside_the_image(small, everything):
    half = small.sensor.image_size / 2
    for sequence in everything.values():
        assert np.diff(sequence.point_offsets).min() > 100
        pixels = sequence.points[:, :2] / sequence.points[:, 2:] * small.sensor.focal
        assert np.abs(pixels).max() < half - 0.9, "the outermost pixels stay empty, so nothing was cut off"
        assert sequence.points[:, 2].min() > 0.5


def test_each_pixel_gives_at_most_one_point(small, everything):
    for sequence in everything.values():
        pixels = sequence.points[:, :2] / sequence.points[:, 2:] * small.sensor.focal + small.sensor.image_size / 2 - 0.5
        assert np.abs(pixels - pixels.round()).max() < 1e-2
        frames = np.repeat(np.arange(sequence.num_frames), np.diff(sequence.point_offsets))
        keys = np.column_stack([frames, pixels.round()]).astype(int)
        assert len(np.unique(keys, axis=0)) == len(keys)


def test_labels_are_parts_and_sides_are_right(small, everything):
    for sequence in everything.values():
        assert sequence.part_labels.max() < len(small.part_names)
    seen = np.unique(np.concatenate([sequence.part_labels for sequence in everything.values()]))
    assert len(seen) == len(small.part_names)
    for name in ("human00_walk", "animal00_walk"):
        body = small.body(sequence_named(small, name))
        for primitive, part in enumerate(body.parts):
            sign = {"left": 1, "right": -1}.get(small.part_names[part].split("_")[0], 0)
            middle = body.rest_positions(np.arange(primitive * 1024, (primitive + 1) * 1024)).mean(axis=0)
            assert sign * middle[0] >= 0


@pytest.mark.parametrize("name", ["human00_wave", "human00_turn", "animal00_rear_up"])
def test_surface_ids_name_the_same_place_of_the_body_in_every_frame(small, everything, name):
    info = sequence_named(small, name)
    sequence, primitives = everything[info.id], small.primitives(info)
    for frame in (0, info.num_frames // 2, info.num_frames - 1):
        where = slice(*sequence.point_offsets[frame : frame + 2])
        centres = surface_positions(primitives, frame, sequence.surface_ids[where])
        distance = np.linalg.norm(centres - sequence.points[where], axis=1)
        assert np.median(distance) < 0.012
        assert distance.max() < 0.06


def test_rest_positions_stand_on_the_floor_and_keep_distances(small, everything):
    info = sequence_named(small, "human00_forward_kick")
    sequence = everything[info.id]
    where = slice(*sequence.point_offsets[info.num_frames // 2 : info.num_frames // 2 + 2])
    points, ids = sequence.points[where], sequence.surface_ids[where]
    rest = small.rest_positions(info, ids)
    for primitive in np.unique(ids // 1024):
        chosen = ids // 1024 == primitive
        now = np.linalg.norm(points[chosen] - points[chosen][0], axis=1)
        then = np.linalg.norm(rest[chosen] - rest[chosen][0], axis=1)
        assert np.abs(now - then).max() < 0.08
    body = small.body(info)
    everywhere = small.rest_positions(info, np.arange(len(body.parts) * 1024))
    assert abs(everywhere[:, 1].max()) < 0.02
    assert 1.4 < -everywhere[:, 1].min() < 2.1


def test_noise_has_the_stated_size():
    exact = Synthetic(None, SyntheticOptions(**SMALL, noise=0.0))
    noisy = Synthetic(None, SyntheticOptions(**SMALL, noise=0.004))
    info = sequence_named(exact, "human00_squat")
    clean, rough = exact.read(info), noisy.read(info)
    assert np.array_equal(clean.surface_ids, rough.surface_ids)
    depth = clean.points[:, 2]
    errors = (rough.points[:, 2] - depth) / depth**2
    assert errors.std() == pytest.approx(0.004, rel=0.05)
    assert abs(errors.mean()) < 0.0002
    assert np.allclose(rough.points[:, :2] / rough.points[:, 2:], clean.points[:, :2] / clean.points[:, 2:], atol=1e-5)


def test_subjects_differ_in_proportions():
    dataset = Synthetic(None, SyntheticOptions())
    firsts = {info.subject: info for info in dataset.sequences()}
    bodies = [dataset.body(info) for info in firsts.values()]
    people = np.array([body.half_lengths for body in bodies[:12]])
    animals = np.array([body.half_lengths for body in bodies[12:]])
    for lengths in (people, animals):
        capsules = lengths[:, lengths[0] > 0]
        shares = capsules / capsules.sum(axis=1, keepdims=True)
        assert len(np.unique(capsules.round(6), axis=0)) == len(lengths)
        assert shares.std(axis=0).max() > 0.001, "not only the scale differs"


# Motion


@pytest.mark.parametrize("name", ["human00_squat", "human00_wave", "human00_bend", "animal00_shake_head", "animal00_wag_tail"])
def test_feet_stay_where_the_action_says_so(small, name):
    info = sequence_named(small, name)
    primitives, body = small.primitives(info), small.body(info)
    assert np.ptp(upside_down_lowest(primitives)) < 1e-4
    feet = [number for number, part in enumerate(body.parts) if small.part_names[part].endswith("foot")]
    assert np.ptp(primitives.centres[:, feet], axis=0).max() < 0.13


def test_a_jump_leaves_the_floor_and_a_squat_lowers_the_pelvis(small):
    floor = upside_down_lowest(small.primitives(sequence_named(small, "human00_jump_r")))
    assert np.ptp(floor) > 0.1
    squat = small.primitives(sequence_named(small, "human00_squat"))
    assert np.ptp(squat.centres[:, 0, 1]) > 0.2


def upside_down_lowest(primitives):
    """Height of the lowest point in sensor coordinates, where y points down."""
    flip = np.diag([1, -1, -1]).astype(np.float32)
    return lowest(
        PosedPrimitives(
            centres=primitives.centres @ flip,
            rotations=flip @ primitives.rotations,
            radii=primitives.radii,
            half_lengths=primitives.half_lengths,
        )
    )


# The sensor against a slow and readable one


def ellipsoid_depth(ray, centre, rotation, radii):
    """Parameter of the first hit: a unit sphere in the ellipsoid's own frame."""
    origin, direction = (rotation.T @ -centre) / radii, (rotation.T @ ray) / radii
    a, b, c = direction @ direction, origin @ direction, origin @ origin - 1
    return np.inf if b * b < a * c else (-b - np.sqrt(b * b - a * c)) / a


def capsule_depth(ray, centre, rotation, radius, half_length):
    """Parameter of the first hit: the side of the cylinder between the ends, or either end sphere."""
    axis = rotation[:, 2]
    hits = [ellipsoid_depth(ray, centre + end * half_length * axis, rotation, radius) for end in (-1, 1)]
    across, offset = ray - (ray @ axis) * axis, -centre + (centre @ axis) * axis
    a, b, c = across @ across, offset @ across, offset @ offset - radius**2
    if a > 1e-12 and b * b >= a * c:
        depth = (-b - np.sqrt(b * b - a * c)) / a
        if abs((depth * ray - centre) @ axis) <= half_length:
            hits.append(depth)
    return min(hits)


def reference_depths(sensor, primitives, frame, grow):
    """Depth image of each primitive, its surface moved outward by `grow` metres."""
    size = sensor.image_size
    image = np.full((len(primitives.radii), size, size), np.inf)
    for row in range(size):
        for column in range(size):
            ray = np.array([(column + 0.5 - size / 2) / sensor.focal, (row + 0.5 - size / 2) / sensor.focal, 1.0])
            for number, (radii, half_length) in enumerate(zip(primitives.radii, primitives.half_lengths, strict=True)):
                centre, rotation = (values[frame, number].astype(float) for values in (primitives.centres, primitives.rotations))
                grown = radii.astype(float) + grow
                if half_length:
                    image[number, row, column] = capsule_depth(ray, centre, rotation, grown[0], float(half_length))
                else:
                    image[number, row, column] = ellipsoid_depth(ray, centre, rotation, grown)
    return image


def rotation_from(quaternion):
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def numbers(low, high, size):
    return st.lists(st.floats(low, high), min_size=size, max_size=size)


@st.composite
def posed_primitives(draw):
    frames, count = 2, draw(st.integers(1, 3))
    quaternions = draw(
        st.lists(numbers(-1, 1, 4).filter(lambda q: np.linalg.norm(q) > 0.1), min_size=frames * count, max_size=frames * count)
    )
    xy = np.array(draw(numbers(-1.2, 1.2, frames * count * 2))).reshape(frames, count, 2)
    z = np.array(draw(numbers(1.5, 4, frames * count))).reshape(frames, count, 1)
    radii = np.array(draw(numbers(0.03, 0.35, count * 3))).reshape(count, 3)
    half_lengths = np.array(draw(st.lists(st.just(0.0) | st.floats(0.02, 0.5), min_size=count, max_size=count)))
    radii[half_lengths > 0] = radii[half_lengths > 0, :1]
    return PosedPrimitives(
        centres=np.concatenate([xy, z], axis=2).astype(np.float32),
        rotations=np.array([rotation_from(q) for q in quaternions], dtype=np.float32).reshape(frames, count, 3, 3),
        radii=radii.astype(np.float32),
        half_lengths=half_lengths.astype(np.float32),
    )


def assert_as_the_reference(sensor, primitives):
    hits = sensor.cast(primitives)
    for frame in range(primitives.num_frames):
        chosen = hits.frames == frame
        depths = np.full((sensor.image_size, sensor.image_size), np.inf)
        depths[hits.rows[chosen], hits.columns[chosen]] = hits.depths[chosen]
        # Rays that graze a silhouette are decided by less than 20 micrometres of surface.
        grown, shrunk = (reference_depths(sensor, primitives, frame, grow) for grow in (2e-5, -2e-5))
        assert (depths >= grown.min(axis=0) - 1e-4).all()
        assert (depths <= shrunk.min(axis=0) + 1e-4).all()
        place = (hits.primitives[chosen], hits.rows[chosen], hits.columns[chosen])
        assert (hits.depths[chosen] >= grown[place] - 1e-4).all(), "the surface that was hit is where its primitive is"
        assert (hits.depths[chosen] <= shrunk.min(axis=0)[place[1:]] + 1e-4).all()


@settings(max_examples=25, deadline=None)
@given(posed_primitives())
def test_sensor_equals_the_reference(primitives):
    assert_as_the_reference(Sensor(image_size=16, focal=14.0), primitives)


def test_sensor_sees_a_capsule_end_on():
    rotation = np.eye(3, dtype=np.float32)
    primitives = PosedPrimitives(
        centres=np.array([[[0, 0, 2]]], dtype=np.float32),
        rotations=rotation[None, None],
        radii=np.full((1, 3), 0.2, dtype=np.float32),
        half_lengths=np.array([0.4], dtype=np.float32),
    )
    sensor = Sensor(image_size=17, focal=40.0)
    hits = sensor.cast(primitives)
    assert hits.depths.min() == pytest.approx(1.4, abs=1e-4)
    assert_as_the_reference(sensor, primitives)


def test_sensor_hides_what_lies_behind():
    primitives = PosedPrimitives(
        centres=np.array([[[0, 0, 3], [0, 0, 2]]], dtype=np.float32),
        rotations=np.broadcast_to(np.eye(3, dtype=np.float32), (1, 2, 3, 3)),
        radii=np.array([[0.3] * 3, [0.3] * 3], dtype=np.float32),
        half_lengths=np.zeros(2, dtype=np.float32),
    )
    assert set(Sensor(image_size=64, focal=60.0).cast(primitives).primitives) == {1}


@settings(max_examples=25, deadline=None)
@given(posed_primitives(), st.integers(0, 1))
def test_surface_ids_and_positions_are_inverse(primitives, frame):
    ids = np.arange(len(primitives.radii) * 1024)
    points = surface_positions(primitives, frame, ids).astype(np.float32)
    frames = np.full(len(ids), frame)
    assert np.array_equal(surface_ids(primitives, points, frames, ids // 1024), ids)


# Options and errors


def test_options_are_parsed_from_strings():
    dataset = open_dataset("synthetic", options={"num_humans": "2", "noise": "0.002", "heading_range_degrees": "30"})
    assert dataset.options.num_humans == 2
    assert dataset.options.noise == 0.002


@pytest.mark.parametrize(
    "options",
    [
        {"num_humans": "many"},
        {"noise": "-1"},
        {"unknown": "1"},
        {"min_frames": "50"},
        {"num_humans": "0", "num_animals": "0"},
        {"heading_range_degrees": "200"},
    ],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(SettingsError, match=r"expected: options: seed"):
        open_dataset("synthetic", options=options)


def test_a_sequence_of_another_dataset_is_refused(small):
    other = Synthetic(None, SyntheticOptions())
    with pytest.raises(DatasetError, match="human11_walk_r00"):
        small.read(sequence_named(other, "human11_walk"))
