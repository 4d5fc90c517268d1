-- The log of durable_nb, version 1. Times are UTC seconds since 1970 as REAL. A payload column holds JSON as TEXT, or, where the JSON is
-- larger than 64 KiB, its SHA-256 as BLOB, which names a row of `payload`.

CREATE TABLE log (
    id         TEXT NOT NULL,             -- this log's own id, part of every signature
    created_at REAL NOT NULL
) STRICT;

CREATE TABLE payload (
    hash BLOB PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Who is alive is told by a lock on a file (engine/liveness.py), not by this row.
CREATE TABLE worker (
    id         TEXT PRIMARY KEY,
    home       TEXT NOT NULL,             -- the notebook or script that it serves, '' where unknown
    pid        INTEGER NOT NULL,
    host       TEXT NOT NULL,
    started_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE definition (
    task       TEXT NOT NULL,
    version    TEXT NOT NULL,
    kind       TEXT NOT NULL,
    options    TEXT NOT NULL,             -- JSON
    body       TEXT NOT NULL,             -- JSON: source and what it needs
    home       TEXT NOT NULL,
    signature  BLOB NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (task, version, home)
) STRICT, WITHOUT ROWID;

CREATE TABLE run (
    -- written once
    number        INTEGER PRIMARY KEY,    -- order of creation; the short name of the run inside this file
    id            TEXT NOT NULL UNIQUE,
    task          TEXT NOT NULL,
    kind          TEXT NOT NULL CHECK (kind IN ('task', 'durable_task')),
    version       TEXT,                   -- of the definition that it was started with
    input         ANY NOT NULL,
    metadata      TEXT NOT NULL,
    priority      INTEGER NOT NULL,
    parent        INTEGER REFERENCES run (number),
    child_key     TEXT,
    child_index   INTEGER,
    key           TEXT UNIQUE,            -- a name that the user gave it for good
    home          TEXT NOT NULL,
    signature     BLOB,
    created_at    REAL NOT NULL,
    -- current state
    status        TEXT NOT NULL DEFAULT 'QUEUED' CHECK (status IN ('QUEUED', 'RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    is_evicted    INTEGER NOT NULL DEFAULT 0,
    blocked_reason TEXT,
    ready_at      REAL,                   -- wants a slot from then on; NULL: running, waiting, blocked or ended
    owner         TEXT,                   -- the worker that may write
    epoch         INTEGER NOT NULL DEFAULT 0,
    branch        INTEGER NOT NULL DEFAULT 1,
    last_seq      INTEGER NOT NULL DEFAULT 0,  -- of the last completion recorded for it
    retry_count   INTEGER NOT NULL DEFAULT 0,
    invocation_count INTEGER NOT NULL DEFAULT 0,
    worked        REAL NOT NULL DEFAULT 0,     -- seconds of this attempt outside durable waits, in earlier invocations
    queued        REAL NOT NULL DEFAULT 0,     -- seconds in the queue while an engine that serves the task lived
    queue_seen_at REAL,
    started_at    REAL,
    finished_at   REAL,
    output        ANY,
    error         TEXT                    -- JSON: type, message, trace
) STRICT;

CREATE INDEX run_ready ON run (priority DESC, ready_at, number, task) WHERE ready_at IS NOT NULL;
CREATE INDEX run_ready_at ON run (ready_at) WHERE ready_at IS NOT NULL;
CREATE INDEX run_owner ON run (owner) WHERE owner IS NOT NULL;
CREATE INDEX run_parent ON run (parent, number) WHERE parent IS NOT NULL;
CREATE INDEX run_child_key ON run (parent, child_key) WHERE child_key IS NOT NULL;
CREATE INDEX run_status ON run (status, number);
CREATE INDEX run_task ON run (task, number);

-- A branch inherits its parent's checkpoints below `cut`, but for the dropped ones, and goes on with its own.
CREATE TABLE branch (
    run        INTEGER NOT NULL REFERENCES run (number),
    branch     INTEGER NOT NULL,
    parent     INTEGER NOT NULL,
    cut        INTEGER NOT NULL,
    dropped    TEXT NOT NULL,             -- JSON list of nodes below the cut
    reason     TEXT NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (run, branch)
) STRICT, WITHOUT ROWID;

-- What a durable task asked and what came of it. The outcome is written once, with its place `seq` in the run's order of delivery.
CREATE TABLE checkpoint (
    run         INTEGER NOT NULL REFERENCES run (number),
    branch      INTEGER NOT NULL,
    node        INTEGER NOT NULL,
    kind        TEXT NOT NULL,
    ask         TEXT NOT NULL,            -- in words
    fingerprint BLOB NOT NULL,
    line        INTEGER,                  -- of the task's source
    child       INTEGER REFERENCES run (number),  -- the run whose end is awaited
    asked_at    REAL NOT NULL,
    seq         INTEGER,                  -- NULL: not satisfied yet
    recorded_at REAL,
    outcome     ANY,
    error       TEXT,                     -- JSON: type, message, trace; the outcome is then NULL
    abandoned   INTEGER NOT NULL DEFAULT 0,  -- its own code stopped waiting for it
    PRIMARY KEY (run, branch, node)
) STRICT, WITHOUT ROWID;

CREATE INDEX checkpoint_child ON checkpoint (child) WHERE child IS NOT NULL;
CREATE INDEX checkpoint_seq ON checkpoint (run, seq) WHERE seq IS NOT NULL;

-- The open conditions of a wait that is not satisfied yet; gone when its checkpoint is.
CREATE TABLE wait (
    run          INTEGER NOT NULL,
    branch       INTEGER NOT NULL,
    node         INTEGER NOT NULL,
    item         INTEGER NOT NULL,
    group_number INTEGER NOT NULL,
    kind         TEXT NOT NULL CHECK (kind IN ('sleep', 'event')),
    name         TEXT NOT NULL,           -- the readable key of its data
    due_at       REAL,
    key          TEXT,
    scope        TEXT,
    expression   TEXT,
    schema       TEXT,                    -- JSON Schema of the payloads that match
    floor        INTEGER,                 -- events up to this one were accepted before it was registered
    matched_at   REAL,
    data         ANY,
    filter_error TEXT,                    -- the last error of its filter, shown to people
    PRIMARY KEY (run, branch, node, item)
) STRICT, WITHOUT ROWID;

CREATE INDEX wait_due ON wait (due_at) WHERE due_at IS NOT NULL AND matched_at IS NULL;
CREATE INDEX wait_key ON wait (key) WHERE key IS NOT NULL AND matched_at IS NULL;

CREATE TABLE event (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    key         TEXT NOT NULL,
    scope       TEXT,
    payload     ANY NOT NULL,
    metadata    TEXT NOT NULL,
    accepted_at REAL NOT NULL,
    matched     INTEGER NOT NULL DEFAULT 0   -- every wait registered before it was considered
) STRICT;

CREATE INDEX event_pending ON event (key, seq) WHERE matched = 0;
CREATE INDEX event_key ON event (key, scope, seq);

-- Transitions of runs, in order: what the current state of `run` follows from.
CREATE TABLE journal (
    seq  INTEGER PRIMARY KEY,
    run  INTEGER NOT NULL REFERENCES run (number),
    at   REAL NOT NULL,
    kind TEXT NOT NULL,
    data TEXT                             -- JSON
) STRICT;

CREATE INDEX journal_run ON journal (run, seq);

-- What a task said with ctx.log; in a notebook also what it printed, logged and warned of.
CREATE TABLE line (
    seq  INTEGER PRIMARY KEY,
    run  INTEGER NOT NULL REFERENCES run (number),
    at   REAL NOT NULL,
    text TEXT NOT NULL,
    level TEXT NOT NULL DEFAULT 'info',
    line INTEGER                          -- of the task's source
) STRICT;

CREATE INDEX line_run ON line (run, seq);

-- Public views: their columns stay what they are.
CREATE VIEW v_runs AS
SELECT run.id, run.number, run.task, run.kind, run.version, run.status, run.is_evicted, run.blocked_reason, parent.id AS parent_id,
       CASE typeof(run.input) WHEN 'blob' THEN (SELECT body FROM payload WHERE hash = run.input) ELSE run.input END AS input,
       CASE typeof(run.output) WHEN 'blob' THEN (SELECT body FROM payload WHERE hash = run.output) ELSE run.output END AS output,
       run.error, run.metadata, run.key, run.priority, run.retry_count, run.invocation_count, run.home,
       datetime(run.created_at, 'unixepoch') AS created_at, datetime(run.started_at, 'unixepoch') AS started_at,
       datetime(run.finished_at, 'unixepoch') AS finished_at
FROM run LEFT JOIN run AS parent ON parent.number = run.parent;

CREATE VIEW v_checkpoints AS
SELECT run.id AS run_id, run.task, checkpoint.branch, checkpoint.node, checkpoint.kind, checkpoint.ask, checkpoint.line, checkpoint.seq,
       child.id AS child_id, checkpoint.abandoned,
       CASE typeof(checkpoint.outcome) WHEN 'blob' THEN (SELECT body FROM payload WHERE hash = checkpoint.outcome)
            ELSE checkpoint.outcome END AS outcome,
       checkpoint.error, datetime(checkpoint.asked_at, 'unixepoch') AS asked_at,
       datetime(checkpoint.recorded_at, 'unixepoch') AS recorded_at
FROM checkpoint JOIN run ON run.number = checkpoint.run LEFT JOIN run AS child ON child.number = checkpoint.child;

CREATE VIEW v_waits AS
SELECT run.id AS run_id, run.task, wait.branch, wait.node, wait.kind, wait.name, wait.key, wait.scope, wait.expression,
       datetime(wait.due_at, 'unixepoch') AS due_at, wait.filter_error
FROM wait JOIN run ON run.number = wait.run WHERE wait.matched_at IS NULL;
