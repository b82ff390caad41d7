-- A stateful streaming job to start from: what counting_job.py does, in SQL.
-- Each new count of a key goes as a line `key,count` to CSV files in the folder HEADRACE_OUTPUT. A file is complete,
-- and shows, when a checkpoint is: so what you read there never has to be taken back.

SET 'pipeline.name' = 'counting-sql';
-- The most subtasks that the counts can ever be spread over. It is written into savepoints: choose once.
SET 'pipeline.max-parallelism' = '128';

-- Twenty random keys a second, for ever.
CREATE TABLE numbers (
  number INT,
  seen_at AS PROCTIME()
) WITH (
  'connector' = 'datagen',
  'rows-per-second' = '20',
  'fields.number.min' = '0',
  'fields.number.max' = '3'
);

CREATE TABLE counts (
  name STRING,
  total BIGINT
) WITH (
  'connector' = 'filesystem',
  'path' = '${HEADRACE_OUTPUT}',
  'format' = 'csv'
);

-- A GROUP BY would take its earlier counts back, which files cannot: counting OVER all rows so far only adds lines.
INSERT INTO counts
SELECT
  name,
  COUNT(*) OVER (PARTITION BY name ORDER BY seen_at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
FROM (SELECT CONCAT('key-', CAST(number AS STRING)) AS name, seen_at FROM numbers);
