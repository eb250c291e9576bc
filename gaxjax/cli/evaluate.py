"""`gaxjax evaluate`: how well a model classifies images."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gaxjax.cli.command import Command
from gaxjax.cli.console import note, print_evaluation, say
from gaxjax.common import UserError, checked_output, write_text
from gaxjax.config import DataConfig, ModelConfig

__all__ = ["Evaluate"]


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Tell how well a model classifies images; of two classes also precision, recall and AUROC.

    Attributes:
        output: File for the figures: .json for all, the confusion matrix among them; .md, .tex or
            .csv for Table 1 of a model with two classes.
    """

    model: ModelConfig
    data: DataConfig
    output: Path | None = None

    def execute(self, given: Sequence[str]) -> int:
        """Classify all images, print the figures and write them."""
        from gaxjax.data import open_images
        from gaxjax.report import TABLE_1_FORMATS, table_1, table_1_text
        from gaxjax.runs import (
            decoded_as_made_for,
            evaluate_classifier,
            open_classifier,
            say_what_it_rests_on,
        )

        output = self.output and checked_output(self.output, (".json", *TABLE_1_FORMATS))
        classifier = open_classifier(self.model)
        if output is not None and output.suffix in TABLE_1_FORMATS and classifier.num_classes != 2:
            raise UserError(
                f"--output {output}: Table 1 is of two classes, the model has "
                f"{classifier.num_classes}; give a .json file"
            )
        data = decoded_as_made_for(self.data, classifier, note)
        images = open_images(
            data, num_classes=classifier.num_classes, class_names=classifier.class_names
        )
        say_what_it_rests_on(classifier, images, note)
        result = evaluate_classifier(
            classifier, images, threads=self.data.decode_threads, note=note
        )
        if not result.num_images:
            raise UserError(f"none of the images of {self.data.data} could be read")
        made_for, size = classifier.input_size, images.size
        if made_for not in (None, size):
            note(
                f"the model was made for images of {made_for} × {made_for}; these are "
                f"{size} × {size} (--size {made_for} would fit)"
            )
        if result.num_correct_from_1 > max(result.num_correct, result.num_images // 2):
            note(
                f"{result.num_correct_from_1} of the {result.num_images} predictions are the label "
                "less 1: the labels seem to count the classes from 1; subtract 1 from each"
            )
        names = classifier.class_names or images.label_names
        print_evaluation(result, names, classifier.validation_accuracy)
        if output is not None and output.suffix == ".json":
            figures = {
                "model": self.model.model,
                "data": images.name,
                "labels_from": images.labels_from,
                **result.to_dict(),
            }
            write_text(output, json.dumps(figures, indent=2) + "\n")
            say(f"Wrote {output}  all figures")
        elif output is not None:
            table = table_1(result, classifier.validation_accuracy)
            write_text(output, table_1_text(table, Path(self.model.model).name, output.suffix))
            say(f"Wrote {output}  Table 1")
        words = shlex.join(_without(given[1:], "--output"))
        say(f"Next: gaxjax gax {words} --output RUN")
        return 0


def _without(words: Sequence[str], flag: str) -> list[str]:
    """Return a command line's words without a flag and its value."""
    kept, skip = [], False
    for word in words:
        if skip or word == flag or word.startswith(f"{flag}="):
            skip = not skip and word == flag
            continue
        kept.append(word)
    return kept
