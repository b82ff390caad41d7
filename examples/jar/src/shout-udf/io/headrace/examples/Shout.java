package io.headrace.examples;

import java.util.Locale;
import org.apache.flink.table.functions.ScalarFunction;

/**
 * A function for SQL, in a jar of its own: {@code CREATE FUNCTION shout AS 'io.headrace.examples.Shout'}, after which
 * {@code shout('well')} is {@code WELL!}.
 */
public final class Shout extends ScalarFunction {
    private static final long serialVersionUID = 1L;

    public String eval(String words) {
        return words == null ? null : words.toUpperCase(Locale.ROOT) + "!";
    }
}
