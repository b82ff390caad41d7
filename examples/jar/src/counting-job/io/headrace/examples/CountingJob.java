package io.headrace.examples;

import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.serialization.SimpleStringEncoder;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.connector.source.lib.NumberSequenceSource;
import org.apache.flink.connector.file.sink.FileSink;
import org.apache.flink.core.fs.Path;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.sink.filesystem.bucketassigners.BasePathBucketAssigner;
import org.apache.flink.streaming.api.functions.sink.filesystem.rollingpolicies.OnCheckpointRollingPolicy;
import org.apache.flink.util.Collector;

/**
 * A stateful streaming job to start from: what {@code counting_job.py} does, in Java.
 *
 * <p>A slow, endless source of numbers is counted per key; each new count goes as a line {@code key,count} to text
 * files under {@code --output}. A file is complete, and shows, when a checkpoint is: so what you read there never has
 * to be taken back.
 */
public final class CountingJob {
    private static final int KEYS = 4;

    // The most subtasks that the keyed state can ever be spread over. It is written into savepoints: choose once.
    private static final int MAX_PARALLELISM = 128;
    private static final long ENDLESS = 1L << 62;

    private CountingJob() {}

    public static void main(String[] arguments) throws Exception {
        Options options = Options.of(arguments, System.getenv("HEADRACE_OUTPUT"));
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment();
        build(environment, options);
        environment.execute("counting-jar");
    }

    /** Wires the job. Every step has a uid: by it a savepoint finds its state again after you edit the job. */
    private static void build(StreamExecutionEnvironment environment, Options options) {
        environment.setMaxParallelism(MAX_PARALLELISM);
        // The source remembers its position in checkpoints. One subtask, so that scaling does not change the rate.
        DataStream<String> keys =
                environment
                        .fromSource(
                                new NumberSequenceSource(0, ENDLESS), WatermarkStrategy.noWatermarks(), "numbers")
                        .uid("numbers")
                        .setParallelism(1)
                        .map(new Throttle(options.perSecond))
                        .name("throttle")
                        .uid("throttle")
                        .setParallelism(1);
        keys.keyBy(key -> key, Types.STRING)
                .process(new Count())
                .name("count")
                .uid("count")
                .sinkTo(textFiles(options.output))
                .name("text-files")
                .uid("text-files");
    }

    /** Exactly-once text files: a part shows when the checkpoint that covers it is complete. */
    private static FileSink<String> textFiles(String folder) {
        return FileSink.forRowFormat(new Path(folder), new SimpleStringEncoder<String>())
                .withBucketAssigner(new BasePathBucketAssigner<>())
                .withRollingPolicy(OnCheckpointRollingPolicy.build())
                .build();
    }

    /** Lets {@code perSecond} numbers through a second, and turns each into a key. */
    private static final class Throttle implements MapFunction<Long, String> {
        private static final long serialVersionUID = 1L;
        private final long pauseMillis;

        Throttle(double perSecond) {
            pauseMillis = Math.round(1000 / perSecond);
        }

        @Override
        public String map(Long number) throws InterruptedException {
            Thread.sleep(pauseMillis);
            return "key-" + number % KEYS;
        }
    }

    /** Counts each key. The count is Flink state: checkpoints and savepoints carry it, also to another parallelism. */
    private static final class Count extends KeyedProcessFunction<String, String, String> {
        private static final long serialVersionUID = 1L;
        private transient ValueState<Long> count;

        @Override
        public void open(OpenContext context) {
            count = getRuntimeContext().getState(new ValueStateDescriptor<>("count", Types.LONG));
        }

        @Override
        public void processElement(String key, Context context, Collector<String> lines) throws Exception {
            Long before = count.value();
            long now = before == null ? 1 : before + 1;
            count.update(now);
            lines.collect(key + "," + now);
        }
    }

    /** The command line: {@code --output FOLDER --rate NUMBERS_A_SECOND}. */
    private static final class Options {
        private String output;
        private double perSecond = 20;

        static Options of(String[] arguments, String outputByDefault) {
            Options options = new Options();
            options.output = outputByDefault;
            for (int i = 0; i < arguments.length; i += 2) {
                options.take(arguments[i], i + 1 < arguments.length ? arguments[i + 1] : null);
            }
            if (options.output == null || options.output.isEmpty()) {
                throw new IllegalArgumentException(
                        "say where to write: --output FOLDER, or HEADRACE_OUTPUT in the environment");
            }
            return options;
        }

        private void take(String name, String value) {
            if (value == null) {
                throw new IllegalArgumentException(name + " needs a value");
            }
            if (name.equals("--output")) {
                output = value;
            } else if (name.equals("--rate")) {
                perSecond = positive(value);
            } else {
                throw new IllegalArgumentException("unknown option " + name + ": there are --output and --rate");
            }
        }

        private static double positive(String value) {
            double rate;
            try {
                rate = Double.parseDouble(value);
            } catch (NumberFormatException error) {
                throw new IllegalArgumentException("--rate must be a number, got " + value, error);
            }
            if (!(rate > 0)) {
                throw new IllegalArgumentException("--rate must be above 0, got " + value);
            }
            return rate;
        }
    }
}
