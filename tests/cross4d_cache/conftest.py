"""Fixtures of stage one: a tiny video teacher, and sequences made on the spot."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import VJEPA2Config, VJEPA2Model

from cross4d_cache.types import PointCloudSequence, SequenceInfo


@pytest.fixture(scope="session")
def tiny_vjepa2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A V-JEPA 2 folder of 32 px, patches of 8 px, tubelets of 2."""
    folder = tmp_path_factory.mktemp("tiny_vjepa2")
    config = VJEPA2Config(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        crop_size=32,
        patch_size=8,
        pred_hidden_size=24,
        pred_num_hidden_layers=1,
        pred_num_attention_heads=2,
        pred_num_mask_tokens=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        VJEPA2Model(config).save_pretrained(folder)
    (folder / "video_preprocessor_config.json").write_text(json.dumps({"crop_size": {"height": 32, "width": 32}, "image_mean": [0.4] * 3}))
    return folder


@pytest.fixture(scope="session")
def make_ball() -> Callable[..., PointCloudSequence]:
    """Makes sequences of a given length, seed and name."""
    return _make_ball


def _make_ball(num_frames: int, *, seed: int = 0, name: str = "ball", num_points: int = 300) -> PointCloudSequence:
    """A lumpy ball that drifts to the right, about half a metre across, 2 m away."""
    rng = np.random.default_rng(seed)
    frames = []
    for t in range(num_frames):
        direction = rng.standard_normal((int(rng.integers(num_points // 2, num_points)), 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        frames.append(direction * (0.25 + 0.05 * np.sin(5 * direction[:, :1])) + [0.1 * t, 0, 2])
    offsets = np.cumsum([0, *map(len, frames)], dtype=np.int64)
    info = SequenceInfo(id=name, num_frames=num_frames, action=0, subject=1, splits={"all": "train"})
    return PointCloudSequence(info=info, points=np.concatenate(frames).astype(np.float32), point_offsets=offsets)


@pytest.fixture(scope="session")
def put_into_bucket() -> Iterator[Callable[[str, bytes], None]]:
    """Puts an object into the bucket `stores` of an S3-compatible server on loopback, which fsspec is told of."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "FSSPEC_S3_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        client = boto3.client("s3", endpoint_url=settings["FSSPEC_S3_ENDPOINT_URL"])
        client.create_bucket(Bucket="stores")
        # fsspec reads its environment when it is imported.
        import fsspec.config

        fsspec.config.set_conf_env(fsspec.config.conf)
        yield lambda name, data: client.put_object(Bucket="stores", Key=name, Body=data)
        fsspec.config.conf.pop("s3", None)
    server.stop()
