"""A stateful streaming job to start from: it counts, and it loses no count when it is stopped, killed or rescaled.

A slow, endless source of numbers is counted per key; each new count goes as a line `key,count` to text files under
--output. A file is complete, and shows, when a checkpoint is: so what you read there never has to be taken back.
"""

import argparse
import os
import time
from collections.abc import Iterator

from pyflink.common import Configuration, Encoder, Types, WatermarkStrategy
from pyflink.datastream import KeyedProcessFunction, MapFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import BucketAssigner, FileSink, RollingPolicy
from pyflink.datastream.connectors.number_seq import NumberSequenceSource
from pyflink.datastream.state import ValueState, ValueStateDescriptor

KEYS = 4
# The most subtasks that the keyed state can ever be spread over. It is written into savepoints: choose once.
MAX_PARALLELISM = 128
ENDLESS = 2**62


class Throttle(MapFunction):
    """Lets `per_second` numbers through a second, and turns each into a key."""

    def __init__(self, per_second: float) -> None:
        self._pause_seconds = 1 / per_second

    def map(self, value: int) -> str:
        time.sleep(self._pause_seconds)
        return f"key-{value % KEYS}"


class Count(KeyedProcessFunction):
    """Counts each key. The count is Flink state: checkpoints and savepoints carry it, also to another parallelism."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self._count: ValueState = runtime_context.get_state(ValueStateDescriptor("count", Types.LONG()))

    def process_element(self, value: str, ctx: KeyedProcessFunction.Context) -> Iterator[str]:
        count = (self._count.value() or 0) + 1
        self._count.update(count)
        yield f"{value},{count}"


def text_files(folder: str) -> FileSink:
    """Exactly-once text files: a part shows when the checkpoint that covers it is complete."""
    return (
        FileSink.for_row_format(folder, Encoder.simple_string_encoder())
        .with_bucket_assigner(BucketAssigner.base_path_bucket_assigner())
        .with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
        .build()
    )


def build(env: StreamExecutionEnvironment, output: str, per_second: float) -> None:
    """Wires the job. Every stateful step has a uid: by it a savepoint finds its state again after you edit the job."""
    env.set_max_parallelism(MAX_PARALLELISM)
    # The source remembers its position in checkpoints. One subtask, so that scaling does not change the rate.
    numbers = env.from_source(
        NumberSequenceSource(0, ENDLESS), WatermarkStrategy.no_watermarks(), "numbers", type_info=Types.LONG()
    )
    keys = (
        numbers.uid("numbers")
        .set_parallelism(1)
        .map(Throttle(per_second), output_type=Types.STRING())
        .name("throttle")
        .uid("throttle")
        .set_parallelism(1)
    )
    counts = keys.key_by(str, key_type=Types.STRING()).process(Count(), output_type=Types.STRING())
    counts.name("count").uid("count").sink_to(text_files(output)).name("text-files").uid("text-files")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default=os.environ.get("HEADRACE_OUTPUT"), help="a folder: path or URI")
    parser.add_argument("--rate", type=float, default=20.0, help="numbers a second (default: 20)")
    given = parser.parse_args()
    if not given.output:
        parser.error("say where to write: --output FOLDER, or HEADRACE_OUTPUT in the environment")
    if given.rate <= 0:
        parser.error(f"--rate must be above 0, got {given.rate}")
    return given


def main() -> None:
    given = arguments()
    settings = Configuration()
    # One number at a time: a checkpoint waits for the open bundle, and 1000 slow numbers would take a minute.
    settings.set_string("python.fn-execution.bundle.size", "1")
    env = StreamExecutionEnvironment.get_execution_environment(settings)
    build(env, given.output, given.rate)
    env.execute("counting")


if __name__ == "__main__":
    main()
