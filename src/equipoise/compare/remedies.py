"""The names of a comparison that are no losses of the catalogue: plain cross-entropy and what is done around it."""

from __future__ import annotations

from dataclasses import dataclass

YARDSTICK = "cross_entropy"
INVERSE_FREQUENCY = "inverse_frequency"
PRIOR_CORRECTED = "prior_corrected"
THRESHOLD = "threshold"
SINGLE_TASK = "single_task"
EQUAL_WEIGHTS = "equal_weights"

KURIN = "Kurin et al., In Defense of the Unitary Scalarization for Deep Multi-Task Learning, NeurIPS 2022"
MENON = "Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021"


@dataclass(frozen=True)
class Remedy:
    """What `equipoise losses NAME` says of one.

    Attributes:
        name: as in the table and in `--losses`.
        problems: the kinds that it is compared on.
        summary: what it is, in a line.
        recipe: how to do it without this tool.
        use_when: what it is good for.
        avoid_when: and what it is not.
        paper: where it comes from.
    """

    name: str
    problems: tuple[str, ...]
    summary: str
    recipe: str
    use_when: str
    avoid_when: str
    paper: str


ALL = ("binary", "multiclass", "multilabel")
REMEDIES = {
    each.name: each
    for each in (
        Remedy(
            YARDSTICK,
            ALL,
            "plain cross-entropy: the yardstick",
            "SoftmaxCrossEntropyLoss() for classes that exclude each other, SigmoidCrossEntropyLoss() for yes/no"
            " questions; see softmax_cross_entropy and sigmoid_cross_entropy",
            "probabilities matter, or nothing is shown to be better",
            "rare classes must be found, and nothing else is done about it",
            "",
        ),
        Remedy(
            INVERSE_FREQUENCY,
            ALL,
            "cross-entropy with each class weighted by the inverse of its frequency",
            "SoftmaxCrossEntropyLoss(weight=inverse_frequency_weights(class_counts(labels, C))); of yes/no questions"
            " SigmoidCrossEntropyLoss(pos_weight=negatives / positives)",
            "every class has some hundred rows, and all count alike",
            "a class has a handful of rows, whose labels would then decide; or probabilities matter",
            "",
        ),
        Remedy(
            PRIOR_CORRECTED,
            ALL,
            "plain cross-entropy, its scores corrected for the class frequencies after training",
            "train with plain cross-entropy, then decide by scores - log(counts / counts.sum()), of yes/no questions by"
            " scores - log(positives / negatives)",
            "rare classes are never predicted: it costs nothing, and is to be tried before any loss",
            "it is the ranking of rows within a class that fails (average precision, log loss): no shift mends that",
            f"{MENON}, eq. 9",
        ),
        Remedy(
            THRESHOLD,
            ("binary",),
            "plain cross-entropy, its decision threshold chosen on validation rows after training",
            "train with plain cross-entropy, and call a row positive above the score that is best on validation rows",
            "one decision is wanted, and the measure of it is known",
            "validation rows have few positives: the threshold is then chosen by chance",
            "",
        ),
        Remedy(
            SINGLE_TASK,
            ("tasks",),
            "a model of its own for each task: the yardstick of several tasks",
            "a network, an optimizer and a learning rate per task, trained by the loss of that task alone",
            "no way of training the tasks together is shown to do better",
            "one network has to serve all tasks, or tasks with few labels may learn from others",
            "",
        ),
        Remedy(
            EQUAL_WEIGHTS,
            ("tasks",),
            "the plain sum of the tasks' losses",
            "sum(losses.values()); or ConstantWeighting with weights of 1",
            "always as a first try: with a tuned learning rate it is hard to beat",
            "the losses differ by orders of magnitude; then constant weights of other sizes",
            KURIN,
        ),
    )
}
