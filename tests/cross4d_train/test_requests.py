"""Work as a value: requests survive JSON, the functions that do them need no console, and give what the commands give."""

import json
import signal

import pytest

from cross4d_cache.errors import SettingsError
from cross4d_cache.work import Remark, Step, finish
from cross4d_train.catalogue import COSTS, NUM_FRAMES, NUM_POINTS
from cross4d_train.encoders.arithmetic import count_costs
from cross4d_train.evaluation.evaluate import EvaluationRequest, evaluate
from cross4d_train.evaluation.transfer import TransferRequest
from cross4d_train.pretrain import PretrainRequest, pretrain
from cross4d_train.resources import Resources
from cross4d_train.settings import EncoderSettings
from tests.cross4d_train.test_train_cli import SMALL, run

CPU = Resources(device="cpu")
OPTIONS = {"encoder.size": "tiny", "clips.num_frames": 3, "clips.num_points": 48, "training.num_epochs": 2}


@pytest.fixture(scope="module")
def request_of_run(store, tmp_path_factory):
    return PretrainRequest(store=str(store), out=tmp_path_factory.mktemp("request") / "run", options=OPTIONS)


@pytest.fixture(scope="module")
def result(request_of_run):
    return finish(pretrain(request_of_run, CPU))


def test_requests_survive_json(request_of_run):
    knn = EvaluationRequest(
        evaluation="knn", checkpoint="random", store="s", encoder=EncoderSettings(size="tiny"), options={"clips.num_frames": 3}
    )
    several = TransferRequest(checkpoints=("random",), stores=("s", "t"), options={"seed": 1})
    for request in (knn, several, request_of_run):
        assert type(request).from_json(request.model_dump_json()) == request


def test_pretrain_prints_nothing_and_leaves_what_the_command_leaves(store, tmp_path, result, request_of_run, capfd):
    commanded = run("pretrain", "--cache", store, "--out", tmp_path / "run", *SMALL, "--json")
    assert commanded.exit_code == 0, commanded.output
    again = finish(pretrain(request_of_run, CPU))  # it has finished, and tells its result once more
    assert again == result
    assert capfd.readouterr() == ("", "")
    theirs = json.loads(commanded.stdout)
    assert {**theirs, "checkpoint": result.checkpoint} == json.loads(result.model_dump_json())
    left = [(folder / "checkpoint.safetensors").read_bytes() for folder in (request_of_run.out, tmp_path / "run")]
    assert left[0] == left[1]


def test_signals_are_heeded_only_where_that_is_asked_for(store, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    for heed in (False, True):
        request = PretrainRequest(store=str(store), out=tmp_path / str(heed), options=OPTIONS)
        work = pretrain(request, CPU, heed_signals=heed)
        event = next(work)
        while not isinstance(event, Step):
            event = next(work)
        assert (signal.getsignal(signal.SIGTERM) != before) == heed
        work.close()
        assert signal.getsignal(signal.SIGTERM) == before


def test_evaluate_says_what_the_command_says_and_returns_its_result(store, result):
    request = EvaluationRequest(evaluation="probe", checkpoint=result.checkpoint, store=str(store), options={"head.num_epochs": 2})
    events, work = [], evaluate(request, CPU)
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            found = end.value
            break
    commanded = run("probe", "--checkpoint", result.checkpoint, "--cache", store, "--epochs", 2, "--device", "cpu", "--json")
    assert json.loads(found.model_dump_json()) == json.loads(commanded.stdout)
    said = [event.text for event in events if isinstance(event, Remark)]
    assert said == [f"device cpu; probe: point4d tiny from {result.checkpoint}"]
    assert [event.done for event in events if isinstance(event, Step)] == list(range(13)), "eight training and four test videos"


def test_an_evaluation_that_does_not_exist():
    with pytest.raises(SettingsError, match="unknown evaluation 'probes'") as caught:
        finish(evaluate(EvaluationRequest(evaluation="probes", checkpoint="random", store="s"), CPU))
    assert "did you mean probe?" in str(caught.value)


def test_the_table_of_encoders_is_what_is_counted():
    assert finish(count_costs(num_frames=NUM_FRAMES, num_points=NUM_POINTS)) == COSTS
