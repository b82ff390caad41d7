"""A job of several files: a module of its own and a function of a Java jar run on TaskManagers, and it counts."""

import os
import time

from pyflink.common import Encoder, Row, Types, WatermarkStrategy
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import BucketAssigner, FileSink, RollingPolicy
from pyflink.datastream.connectors.number_seq import NumberSequenceSource
from pyflink.datastream.state import ValueStateDescriptor
from pyflink.table import StreamTableEnvironment
from pyflink.table.expressions import call, col
from shop.keys import key_of

ROW = Types.ROW([Types.STRING(), Types.LONG()])


def slowly(number: int) -> str:
    time.sleep(0.05)
    return key_of(number)


class Count(KeyedProcessFunction):
    def open(self, runtime_context: RuntimeContext) -> None:
        self._count = runtime_context.get_state(ValueStateDescriptor("count", Types.LONG()))

    def process_element(self, value: str, ctx: KeyedProcessFunction.Context):
        count = (self._count.value() or 0) + 1
        self._count.update(count)
        yield Row(value, count)


def main() -> None:
    env = StreamExecutionEnvironment.get_execution_environment()
    env.set_max_parallelism(128)
    tables = StreamTableEnvironment.create(env)
    tables.create_java_temporary_function("shout", "io.headrace.examples.Shout")
    source = NumberSequenceSource(0, 2**62)
    numbers = env.from_source(source, WatermarkStrategy.no_watermarks(), "numbers", type_info=Types.LONG())
    keys = numbers.uid("numbers").set_parallelism(1).map(slowly, Types.STRING()).uid("keys").set_parallelism(1)
    counts = keys.key_by(str, Types.STRING()).process(Count(), ROW).uid("count")
    shouted = tables.from_data_stream(counts).select(call("shout", col("f0")), col("f1"))
    lines = tables.to_data_stream(shouted).map(lambda row: f"{row[0]},{row[1]}", Types.STRING()).uid("lines")
    sink = (
        FileSink.for_row_format(os.environ["HEADRACE_OUTPUT"], Encoder.simple_string_encoder())
        .with_bucket_assigner(BucketAssigner.base_path_bucket_assigner())
        .with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
        .build()
    )
    lines.sink_to(sink).uid("files")
    env.execute("folder")


if __name__ == "__main__":
    main()
