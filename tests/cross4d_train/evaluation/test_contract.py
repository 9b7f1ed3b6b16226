from tests.cross4d_train.evaluation.contract import EvaluationContract


class TestProbe(EvaluationContract):
    name = "probe"


class TestProbeOfMeanAndMaximum(EvaluationContract):
    name = "probe"
    options = {"pooling": "mean+max"}  # noqa: RUF012


class TestNearestNeighbours(EvaluationContract):
    name = "knn"
    options = {"num_neighbours": 3}  # noqa: RUF012


class TestFinetuning(EvaluationContract):
    name = "finetune"
    options = {"num_epochs": 2, "fractions": (0.5, 1.0), "test_every": 1}  # noqa: RUF012


class TestSegmentation(EvaluationContract):
    name = "segment"
    options = {"num_epochs": 2, "batch_size": 3}  # noqa: RUF012


class TestSegmentationEndToEnd(EvaluationContract):
    name = "segment"
    options = {"num_epochs": 2, "batch_size": 3, "end_to_end": True}  # noqa: RUF012


class TestActionSegmentation(EvaluationContract):
    name = "segment-actions"
    options = {"num_epochs": 2, "batch_size": 3}  # noqa: RUF012


class TestRobustness(EvaluationContract):
    name = "robustness"


class TestCorrespondence(EvaluationContract):
    name = "correspondence"
    options = {"gaps": (1, 3), "num_queries": 20}  # noqa: RUF012
